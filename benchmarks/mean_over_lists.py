"""Compares the mean EER over several lists of two systems, with an interval over speakers and seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mqmha_jax.data.lists import read_utt2spk
from mqmha_jax.data.score_files import read_scored_trials, read_scores
from mqmha_jax.evaluation.metrics.bootstrap import bootstrap_interval, speaker_bootstrap, trial_speakers
from mqmha_jax.evaluation.metrics.compare import COMPARED, draw_seeds

_REPLICATES = 1000


class MeanComparison(NamedTuple):
    """Mean EER over the lists, as fractions; a negative difference says that B is better.

    Attributes:
      a: of system A, the mean over its seeds.
      b: of system B.
      interval: 95 %, of ``b - a``.
    """

    a: float
    b: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.interval
        return f"mean EER {self.a:.2%} -> {self.b:.2%}, difference {self.b - self.a:+.2%} [{low:+.2%}, {high:+.2%}]"


def compare_means(a: Sequence[Path], b: Sequence[Path]) -> MeanComparison:
    """Compares evaluations of the same lists on disk, one per seed of each system.

    Resamples the speakers of each list by themselves, because lists share none, and the same seeds for all lists.
    """
    rng = np.random.default_rng(0)
    weights = [draw_seeds(len(system), _REPLICATES, rng) for system in (a, b)]
    utt2spk = read_utt2spk(a[0] / "utt2spk.txt")
    estimates, resampled, num_speakers = [], [], 0
    files = sorted(path.name for path in a[0].glob("scores_*_cosine.txt"))
    for file in files:
        trials, first = read_scored_trials(a[0] / file)
        scores = np.stack([first, *(read_scores(path / file, trials) for path in (*a[1:], *b))])
        sides = trial_speakers(trials, utt2spk)
        only_eer = {"eer": COMPARED["eer"]}
        found = speaker_bootstrap(scores, trials.target, *sides, only_eer, replicates=_REPLICATES)
        split = [found.replicates[:, : len(a), 0], found.replicates[:, len(a) :, 0]]
        resampled.append([(w * part).sum(axis=1) for w, part in zip(weights, split, strict=True)])
        estimates.append([found.estimates[: len(a), 0].mean(), found.estimates[len(a) :, 0].mean()])
        num_speakers += found.num_speakers
    (mean_a, mean_b), drawn = np.mean(estimates, axis=0), np.mean(resampled, axis=0)
    low, high = bootstrap_interval(np.array(mean_b - mean_a), drawn[1] - drawn[0], num_speakers)
    return MeanComparison(float(mean_a), float(mean_b), (float(low), float(high)))
