"""Compares the mean EER over several lists of two systems, with an interval over speakers and seeds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mqmha_jax.data.shard_reader import FbankShards
from mqmha_jax.evaluation.metrics.detection import equal_error_rate
from mqmha_jax.study.effects import EER, estimate_effects, measure
from mqmha_jax.study.results import ListScores

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
    measured = measure([_stack(name, a, b, *labels) for name, labels in lists.items()], mean=True, replicates=1000)[-1]
    effect = estimate_effects(measured, plus=["b"], minus=["a"])["eer"]
    mean_a, mean_b = (float(measured.estimates[system][:, EER].mean()) for system in ("a", "b"))
    return MeanComparison(mean_a, mean_b, effect.interval)


def _stack(
    name: str,
    a: Sequence[TrialScores],
    b: Sequence[TrialScores],
    target: np.ndarray,
    enrol: np.ndarray,
    test: np.ndarray,
) -> ListScores:
    systems = {"a": a, "b": b}
    scores = {
        system: np.stack([np.asarray(one[name], np.float64) for one in seeds]) for system, seeds in systems.items()
    }
    return ListScores(name, target, enrol, test, scores)
