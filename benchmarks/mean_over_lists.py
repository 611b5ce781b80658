"""Compares the mean EER over several lists of two systems, with an interval over speakers and seeds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mqmha_jax.data.shard_reader import FbankShards
from mqmha_jax.evaluation.metrics.bootstrap import bootstrap_interval, speaker_bootstrap
from mqmha_jax.evaluation.metrics.compare import COMPARED, draw_seeds
from mqmha_jax.evaluation.metrics.detection import equal_error_rate

_REPLICATES = 1000

TrialScores = Mapping[str, np.ndarray]
"""Scores of the trials of each list."""

Labels = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of a list: whether each trial is a target, and the speakers of its two sides."""


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


def speakers_by_utterance(shards: FbankShards) -> dict[str, str]:
    """The speaker of each utterance."""
    return {shards.utterance(i): shards.speakers[shards.speaker[i]] for i in range(len(shards))}


def equal_error_rates(scores: TrialScores, lists: Mapping[str, Labels]) -> dict[str, float]:
    """The EER of each list."""
    return {name: equal_error_rate(scores[name], labels[0]) for name, labels in lists.items()}


def compare_means(a: Sequence[TrialScores], b: Sequence[TrialScores], lists: Mapping[str, Labels]) -> MeanComparison:
    """Compares two systems on the same lists, with the scores of one or more seeds each.

    Resamples the speakers of each list by themselves, because lists share none, and the same seeds for all lists.
    """
    rng = np.random.default_rng(0)
    weights = [draw_seeds(len(system), _REPLICATES, rng) for system in (a, b)]
    estimates, resampled, num_speakers = [], [], 0
    for name, (target, enrol, test) in lists.items():
        scores = np.stack([np.asarray(one[name], np.float64) for one in (*a, *b)])
        only_eer = {"eer": COMPARED["eer"]}
        found = speaker_bootstrap(scores, target, enrol, test, only_eer, replicates=_REPLICATES)
        parts = found.replicates[:, : len(a), 0], found.replicates[:, len(a) :, 0]
        resampled.append([(w * part).sum(axis=1) for w, part in zip(weights, parts, strict=True)])
        estimates.append([found.estimates[: len(a), 0].mean(), found.estimates[len(a) :, 0].mean()])
        num_speakers += found.num_speakers
    (mean_a, mean_b), drawn = np.mean(estimates, axis=0), np.mean(resampled, axis=0)
    low, high = bootstrap_interval(np.array(mean_b - mean_a), drawn[1] - drawn[0], num_speakers)
    return MeanComparison(float(mean_a), float(mean_b), (float(low), float(high)))
