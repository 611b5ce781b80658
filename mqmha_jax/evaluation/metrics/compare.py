"""Tests whether system B is better than system A on one list.

Both are measured on the same resamples of the speakers. How hard the drawn speakers are cancels in the difference, so
its interval is far shorter than the intervals of the two systems suggest. If the systems were trained with several
seeds, every A is compared with every B, and the seeds are resampled too.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Shaped

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.bootstrap import (
    MIN_SPEAKERS,
    Metric,
    bootstrap_interval,
    bootstrap_p_value,
    speaker_bootstrap,
)
from mqmha_jax.evaluation.metrics.detection import DetectionCurve

COMPARED: Mapping[str, Metric] = {
    "eer": DetectionCurve.equal_error_rate,
    "min_dcf_0.01": partial(DetectionCurve.min_dcf, p_target=0.01),
}


class Comparison(NamedTuple):
    """System B compared with system A in one metric; lower is better.

    Attributes:
      a: mean over the seeds of A.
      b: mean over the seeds of B.
      difference: ``b - a``: negative where B is better.
      interval: of the difference, lower and upper end.
      probability_b_better: share of the resamples in which B is better; ties count half.
      p_value: two-sided, for the hypothesis of no difference.
      num_speakers: speakers in the list.
    """

    a: float
    b: float
    difference: float
    interval: tuple[float, float]
    probability_b_better: float
    p_value: float
    num_speakers: int

    @property
    def reliable(self) -> bool:
        """Whether the list has enough speakers to trust the interval."""
        return self.num_speakers >= MIN_SPEAKERS


def compare_systems(
    a: Shaped[np.ndarray, "I M"],
    b: Shaped[np.ndarray, "J M"],
    target: Shaped[np.ndarray, " M"],
    enrol_speaker: Int[np.ndarray, " M"],
    test_speaker: Int[np.ndarray, " M"],
    metrics: Mapping[str, Metric] = COMPARED,
    *,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Comparison]:
    """Compares two systems on the same trials.

    The difference is the mean over all I x J pairs of an A and a B. A resample draws speakers and, for a system with
    n > 1 seeds, n - 1 seeds with replacement: drawing n would make the variance of their mean too small by a factor of
    (n - 1) / n (Rao and Wu, 1988). With one seed per system the interval says nothing about other seeds.

    Args:
      a: ``[I, M]`` scores of system A, one row for each training seed.
      b: ``[J, M]`` scores of system B, on the same trials.
      target: ``[M]`` booleans (or 0 and 1).
      enrol_speaker: ``[M]``, see ``trial_speakers``.
      test_speaker: ``[M]``.
      metrics: functions of a curve, by name; lower is better.
      replicates: number of resamples.
      seed: of the resamples.
      level: confidence level of the interval.

    Returns:
      One comparison for each metric.

    Raises:
      UserError: as ``speaker_bootstrap``; a system without scores.
    """
    if not (len(a) and len(b)):
        raise UserError(f"There are {len(a)} sets of scores of A and {len(b)} of B; valid: at least one of each.")
    both = speaker_bootstrap(
        np.concatenate([a, b]), target, enrol_speaker, test_speaker, metrics, replicates=replicates, seed=seed
    )
    rng = np.random.default_rng([seed, 1])  # independent of the numbers that drew the speakers
    drawn = [draw_seeds(len(system), replicates, rng) for system in (a, b)]
    mean_a, mean_b = both.estimates[: len(a)].mean(axis=0), both.estimates[len(a) :].mean(axis=0)
    resampled_a = np.einsum("rl,rlj->rj", drawn[0], both.replicates[:, : len(a)])
    resampled_b = np.einsum("rl,rlj->rj", drawn[1], both.replicates[:, len(a) :])
    difference, resampled = mean_b - mean_a, resampled_b - resampled_a
    interval = bootstrap_interval(difference, resampled, both.num_speakers, level)
    p_value = bootstrap_p_value(difference, resampled, both.num_speakers)
    better = np.mean(resampled < 0, axis=0) + np.mean(resampled == 0, axis=0) / 2
    return {
        name: Comparison(
            a=float(mean_a[j]),
            b=float(mean_b[j]),
            difference=float(difference[j]),
            interval=(float(interval[j, 0]), float(interval[j, 1])),
            probability_b_better=float(better[j]),
            p_value=float(p_value[j]),
            num_speakers=both.num_speakers,
        )
        for j, name in enumerate(metrics)
    }


def draw_seeds(num_seeds: int, replicates: int, rng: np.random.Generator) -> Float64[np.ndarray, "R n"]:
    """Weights of a system's seeds in each resample; a row sums to 1."""
    draws = max(num_seeds - 1, 1)
    return rng.multinomial(draws, np.full(num_seeds, 1 / num_seeds), replicates) / draws
