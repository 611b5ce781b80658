"""Quality measures of trials, which calibration weighs beside the score (QMF).

A short or noisy recording makes every score less certain. Each measure of an utterance (its duration, the length of its
embedding, its nearness to a cohort) enters as the smaller and the larger value of the two sides, so that swapping the
sides does not change the calibrated score.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from mqmha_jax.data.lists import trial_positions
from mqmha_jax.errors import UserError
from mqmha_jax.types import Embeddings, Trials


class Features(NamedTuple):
    """The features that calibration uses.

    Attributes:
      names: of the d columns; the first is ``score``.
      values: ``[M, d]``.
    """

    names: tuple[str, ...]
    values: Float64[np.ndarray, "M d"]


def utterance_measures(
    embeddings: Embeddings,
    *,
    duration_s: Float[np.ndarray, " N"] | None = None,
    cohort_mean: Float[np.ndarray, " N"] | None = None,
) -> dict[str, Float64[np.ndarray, " N"]]:
    """Measures of each utterance: ``log_norm`` and, where given, ``log_duration`` and ``cohort_mean``.

    Args:
      embeddings: N utterances, vectors ``[N, E]`` after ``centre``, not scaled.
      duration_s: ``[N]`` seconds of each recording, pauses included.
      cohort_mean: ``[N]`` mean of the highest cohort scores, from ``cohort_statistics(...).mean``.

    Returns:
      ``[N]`` for each measure.

    Raises:
      UserError: a duration or an embedding's norm is not positive.
    """
    norms = np.linalg.norm(embeddings.vectors, axis=1)
    measures = {"log_norm": _log(norms, embeddings.ids, "norm of the embedding")}
    if duration_s is not None:
        measures["log_duration"] = _log(duration_s, embeddings.ids, "duration")
    if cohort_mean is not None:
        measures["cohort_mean"] = cohort_mean.astype(np.float64)
    return measures


def score_feature(scores: Float[np.ndarray, " M"]) -> Features:
    """The score ``[M]`` as the only feature: calibration by scale and offset."""
    return Features(("score",), scores[:, None].astype(np.float64))


def trial_features(
    scores: Float[np.ndarray, " M"],
    trials: Trials,
    utterances: tuple[str, ...],
    measures: Mapping[str, Float[np.ndarray, " N"]],
) -> Features:
    """The score of each trial, and the smaller and the larger value of each measure of its two sides.

    Args:
      scores: ``[M]``.
      trials: M trials.
      utterances: N ids.
      measures: ``[N]`` for each measure, in the order of the ids, e.g. of ``utterance_measures``.

    Returns:
      Columns ``score``, ``log_norm_min``, ``log_norm_max`` and so on.

    Raises:
      UserError: a trial names an utterance that is not among the ids.
    """
    enrol, test = trial_positions(trials, utterances)
    names, columns = ["score"], [scores.astype(np.float64)]
    for name, values in measures.items():
        names += [f"{name}_min", f"{name}_max"]
        columns += [np.minimum(values[enrol], values[test]), np.maximum(values[enrol], values[test])]
    return Features(tuple(names), np.stack(columns, axis=1).astype(np.float64))


def _log(values: Float[np.ndarray, " N"], ids: tuple[str, ...], what: str) -> Float64[np.ndarray, " N"]:
    wrong = np.flatnonzero(~(values > 0))
    if wrong.size:
        raise UserError(
            f"The {what} of utterance {ids[wrong[0]]!r} is {values[wrong[0]]} ({wrong.size} such utterances); "
            "valid: positive numbers."
        )
    return np.log(values.astype(np.float64))
