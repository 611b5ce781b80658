"""Measures differences between cells, with intervals over speakers and seeds.

As in ``compare_systems``, all cells are measured on the same resamples of the speakers, and the seeds of each cell are
resampled too. Lists with different speakers are resampled independently; every resample has a mean over them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from mqmha_jax.evaluation.metrics.bootstrap import (
    MIN_SPEAKERS,
    bootstrap_interval,
    bootstrap_p_value,
    speaker_bootstrap,
)
from mqmha_jax.evaluation.metrics.compare import COMPARED, draw_seeds
from mqmha_jax.study.results import ListScores

METRICS = tuple(COMPARED)
EER = METRICS.index("eer")
MEAN = "mean over lists"


class Measured(NamedTuple):
    """Metrics of all cells on one list, or their mean over lists.

    Attributes:
      name: name of the list.
      estimates: cell -> ``[n, J]``, the J metrics of each seed.
      resampled: cell -> ``[R, J]`` metrics of each resample, averaged over the seeds that it drew.
      num_speakers: number of speakers of the list, or of all lists.
      fewest_speakers: number of speakers of the smallest list. It sets the width of the intervals, because the mean
        depends on every list.
    """

    name: str
    estimates: Mapping[str, Float64[np.ndarray, "n J"]]
    resampled: Mapping[str, Float64[np.ndarray, "R J"]]
    num_speakers: int
    fewest_speakers: int

    @property
    def reliable(self) -> bool:
        """Whether every list has enough speakers for reliable intervals."""
        return self.fewest_speakers >= MIN_SPEAKERS

    def interval(self, cell: str) -> Float64[np.ndarray, "J 2"]:
        """95 % interval of a cell's own metrics."""
        return bootstrap_interval(self.estimates[cell].mean(axis=0), self.resampled[cell], self.fewest_speakers)


class Effect(NamedTuple):
    """A difference; negative is better.

    Attributes:
      difference: difference as a fraction, e.g. -0.01 for one point of EER.
      interval: its 95 % interval.
      p_value: two-sided p-value of "there is no difference".
    """

    difference: float
    interval: tuple[float, float]
    p_value: float

    @property
    def smallest_shown(self) -> float:
        """Half the width of the interval: about the smallest difference that could have been shown."""
        return (self.interval[1] - self.interval[0]) / 2


def measure(lists: Sequence[ListScores], *, mean: bool, replicates: int, seed: int = 0) -> list[Measured]:
    """Measures all cells on every list.

    Args:
      lists: scores on each list, with the same cells and seeds.
      mean: add the mean over several lists, which must not share speakers.
      replicates: R, the number of resamples.
      seed: seed of the resamples.
    """
    rng = np.random.default_rng([seed, 1])
    drawn = {cell: draw_seeds(len(rows), replicates, rng) for cell, rows in lists[0].scores.items()}
    measured = []
    for position, part in enumerate(lists):
        sizes = [len(rows) for rows in part.scores.values()]
        both = speaker_bootstrap(
            np.concatenate(list(part.scores.values())),
            part.target,
            part.enrol_speaker,
            part.test_speaker,
            COMPARED,
            replicates=replicates,
            seed=seed + position,  # one seed would draw lists with the same number of speakers alike
        )
        ends = np.cumsum(sizes)[:-1]
        estimates = dict(zip(part.scores, np.split(both.estimates, ends), strict=True))
        by_cell = dict(zip(part.scores, np.split(both.replicates, ends, axis=1), strict=True))
        resampled = {cell: np.einsum("rn,rnj->rj", drawn[cell], values) for cell, values in by_cell.items()}
        measured.append(Measured(part.name, estimates, resampled, both.num_speakers, both.num_speakers))
    return [*measured, _mean(measured)] if mean and len(lists) > 1 else measured


def estimate_effects(measured: Measured, plus: Sequence[str], minus: Sequence[str]) -> dict[str, Effect]:
    """Subtracts the mean over some cells from the mean over others, in each metric.

    Args:
      measured: metrics on a list, or the mean over lists.
      plus: cells whose mean counts positively.
      minus: cells whose mean is subtracted.

    Returns:
      metric -> difference.
    """
    sides = (plus, minus)
    one, other = (np.mean([measured.estimates[cell].mean(axis=0) for cell in side], axis=0) for side in sides)
    difference = one - other
    one, other = (np.mean([measured.resampled[cell] for cell in side], axis=0) for side in sides)
    ends = bootstrap_interval(difference, one - other, measured.fewest_speakers)
    p_values = bootstrap_p_value(difference, one - other, measured.fewest_speakers)
    return {
        metric: Effect(float(difference[j]), (float(ends[j, 0]), float(ends[j, 1])), float(p_values[j]))
        for j, metric in enumerate(METRICS)
    }


def adjust_by_holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for several comparisons (Holm, 1979), however these depend on each other.

    Args:
      p_values: p-value of each comparison.

    Returns:
      Adjusted p-values in the same order. Claiming all that are below .05 makes any wrong claim with at most 5 %
      probability.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(order) - np.arange(len(order))
    adjusted = np.minimum(np.maximum.accumulate(np.asarray(p_values, np.float64)[order] * factors), 1)
    result = np.empty(len(order))
    result[order] = adjusted
    return result.tolist()


def _mean(lists: Sequence[Measured]) -> Measured:
    cells = lists[0].estimates
    return Measured(
        MEAN,
        {cell: np.mean([part.estimates[cell] for part in lists], axis=0) for cell in cells},
        {cell: np.mean([part.resampled[cell] for part in lists], axis=0) for cell in cells},
        sum(part.num_speakers for part in lists),
        min(part.num_speakers for part in lists),
    )
