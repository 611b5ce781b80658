"""Score normalisation against a cohort: z-norm, t-norm, s-norm and adaptive s-norm.

Cohort statistics are computed once per utterance; all trials of the utterance, matrix tiles and the quality measures of
calibration use them.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.numbers import as_numbers, require_direction
from mqmha_jax.evaluation.scoring.units import scale_to_units
from mqmha_jax.field_checks import check_value
from mqmha_jax.types import Embeddings

COHORT_SCORES_PER_TILE = 1 << 22  # 16 MiB of float32; larger tiles were no faster

AnyArray = TypeVar("AnyArray", np.ndarray, Array)  # the arithmetic is the same on the host and on the device

# Cosines of float32 embeddings are exact to about 1e-7: a deviation below this is rounding, not spread.
MIN_COHORT_DEVIATION = 1e-6


class CohortStatistics(NamedTuple):
    """Mean and deviation of the cosines of N utterances to a cohort.

    Attributes:
      mean: ``[N]`` mean of the cohort cosines that count.
      deviation: ``[N]`` their population standard deviation.
    """

    mean: Float[Array | np.ndarray, "*shape"]
    deviation: Float[Array | np.ndarray, "*shape"]

    def of(self, rows: Int[np.ndarray, " M"]) -> "CohortStatistics":
        """The statistics of some utterances, e.g. of the enrolment side of M trials."""
        return CohortStatistics(self.mean[rows], self.deviation[rows])


def cohort_statistics(
    embeddings: Embeddings,
    cohort: Float[np.ndarray, "n E"],
    *,
    top_n: int | None = None,
) -> CohortStatistics:
    """Mean and deviation of each utterance's cosines to a cohort, in tiles of bounded memory.

    Args:
      embeddings: N utterances, vectors ``[N, E]`` of any length.
      cohort: ``[n, E]`` embeddings of speakers that are in no trial, e.g. one mean per training speaker.
      top_n: how many of each utterance's highest cosines count, 2 to n (adaptive normalisation; usually 300 to 400);
        None: all.

    Returns:
      Statistics in the order of the embeddings, ``[N]`` each, float32.

    Raises:
      UserError: ``top_n`` is no integer from 2 to n; a cohort of another size than the embeddings, or with a vector
        that is not finite; an utterance whose cohort cosines do not differ.
    """
    cohort, vectors = as_numbers(cohort, "cohort embeddings"), as_numbers(embeddings.vectors, "embeddings")
    if cohort.ndim != 2 or cohort.shape[1:] != vectors.shape[1:]:
        raise UserError(
            f"The cohort has shape {cohort.shape}, the embeddings {vectors.shape}; valid: [n, E] and [N, E], both from "
            "one network."
        )
    top_n = len(cohort) if top_n is None else top_n
    check_value("top_n", top_n, int)
    if not 2 <= top_n <= len(cohort):
        raise UserError(
            f"top_n is {top_n} with a cohort of {len(cohort)}; valid: 2 to the size of the cohort. "
            "Lower top_n or give a larger cohort."
        )
    require_direction(cohort, what="cohort embeddings")
    tiles = _tile_statistics(scale_to_units(vectors), scale_to_units(cohort), top_n)
    statistics = CohortStatistics(*map(np.concatenate, zip(*tiles, strict=True)))
    equal = np.flatnonzero(~(statistics.deviation >= MIN_COHORT_DEVIATION))
    if equal.size:
        raise UserError(
            f"The {top_n} highest cohort scores of utterance {embeddings.ids[equal[0]]!r} are all equal "
            f"({equal.size} such utterances); the cohort needs embeddings of different speakers."
        )
    return statistics


def normalize_scores(
    scores: AnyArray, *, enrol: CohortStatistics | None = None, test: CohortStatistics | None = None
) -> AnyArray:
    """Normalises scores by how the two sides score against a cohort.

    The enrolment side's statistics alone give z-norm, the test side's alone t-norm, and both give s-norm, their mean
    (Kenny, 2010). Statistics of the ``top_n`` nearest give adaptive s-norm (Matějka et al., 2017).

    Args:
      scores: ``[M]`` of trials, or ``[R, C]`` of every row against every column.
      enrol: statistics of each trial, ``[M]``, or of each row, ``[R, 1]``.
      test: statistics of each trial, ``[M]``, or of each column, ``[1, C]``.

    Returns:
      The normalised scores, of the same shape; the scores themselves where neither side is given.
    """
    sides = [(scores - side.mean) / side.deviation for side in (enrol, test) if side is not None]
    if not sides:
        return scores
    return sides[0] if len(sides) == 1 else (sides[0] + sides[1]) / 2


def _tile_statistics(
    units: Float32[Array, "N E"], cohort: Float32[Array, "n E"], top_n: int
) -> Iterator[CohortStatistics]:
    """Statistics of some utterances at a time; the device multiplies the next tile while the host reads this one."""
    rows = max(1, COHORT_SCORES_PER_TILE // len(cohort))
    statistics = _host_statistics if jax.default_backend() == "cpu" else _device_statistics
    pending = None
    for start in range(0, len(units), rows):
        cosines = _products(units[start : start + rows], cohort)
        if pending is not None:
            yield CohortStatistics(*map(np.asarray, statistics(pending, top_n)))
        pending = cosines
    if pending is not None:
        yield CohortStatistics(*map(np.asarray, statistics(pending, top_n)))


@jax.jit
def _products(units: Float32[Array, "r E"], cohort: Float32[Array, "n E"]) -> Float32[Array, "r n"]:
    return jnp.dot(units, cohort.T, precision=jax.lax.Precision.HIGHEST)


@jax.jit(static_argnames="top_n")
def _device_statistics(cosines: Float32[Array, "r n"], top_n: int) -> CohortStatistics:
    # Without a selection where all count: top_k would sort them for nothing.
    nearest = cosines if top_n == cosines.shape[1] else jax.lax.top_k(cosines, top_n)[0]
    return CohortStatistics(jnp.mean(nearest, axis=1), jnp.std(nearest, axis=1))


def _host_statistics(cosines: Float32[Array, "r n"], top_n: int) -> CohortStatistics:
    """The same in NumPy, for CPUs: its selection takes a fifth of the time of XLA's top_k there."""
    beyond = cosines.shape[1] - top_n
    nearest = np.partition(np.asarray(cosines), beyond, axis=1)[:, beyond:] if beyond else np.asarray(cosines)
    return CohortStatistics(nearest.mean(axis=1), nearest.std(axis=1))
