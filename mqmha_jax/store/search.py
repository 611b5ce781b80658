"""Finds the nearest of many speakers to one recording by exact products with one vector per speaker."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mqmha_jax.evaluation.numbers import require_direction
from mqmha_jax.store.roster import Roster


class Centres(NamedTuple):
    """What a recording is compared with.

    Attributes:
      vectors: ``[P, E]``, the mean of each speaker's unit-length embeddings, not normalised: the product with a
        unit-length embedding is the mean of the cosines with the speaker's recordings.
      log_norm: mean logarithm of the length of each speaker's embeddings.
      log_duration: mean logarithm of the seconds of each speaker's recordings.
    """

    vectors: Float32[np.ndarray, "P E"]
    log_norm: Float32[np.ndarray, " P"]
    log_duration: Float32[np.ndarray, " P"]


def compute_centres(
    blocks: Iterable[Float32[np.ndarray, "_ E"]], roster: Roster, mean: Float32[np.ndarray, " E"]
) -> Centres:
    """Computes the centre of every speaker.

    Args:
      blocks: of the R embeddings, in the order of the roster.
      roster: P speakers.
      mean: subtracted from embeddings before they are compared.
    """
    count = len(roster.speakers)
    vectors, log_norm = np.zeros((count, len(mean)), np.float32), np.zeros(count, np.float32)
    row = 0
    for block in blocks:
        units, norms = scale_to_unit(block - mean)
        order = np.argsort(roster.speaker[row : row + len(block)], kind="stable")
        speakers, starts = np.unique(roster.speaker[row : row + len(block)][order], return_index=True)
        vectors[speakers] += np.add.reduceat(units[order], starts)
        log_norm[speakers] += np.add.reduceat(np.log(norms[order, 0]), starts)
        row += len(block)
    recordings = np.bincount(roster.speaker, minlength=count).astype(np.float32)
    vectors /= recordings[:, None]
    log_duration = np.bincount(roster.speaker, np.log(roster.seconds), count).astype(np.float32)
    return Centres(vectors, log_norm / recordings, log_duration / recordings)


def scale_to_unit(
    vectors: Float32[np.ndarray, "N E"], names: Sequence[str] | None = None
) -> tuple[Float32[np.ndarray, "N E"], Float32[np.ndarray, "N 1"]]:
    """Embeddings at unit length, and the lengths that they had.

    Raises:
      UserError: an embedding has no direction.
    """
    require_direction(vectors, names)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / norms, norms


def find_highest(scores: Float32[np.ndarray, " P"] | Float64[np.ndarray, " P"], top_n: int) -> Int64[np.ndarray, " n"]:
    """Positions of the highest scores, the highest first; of equal scores the first comes first.

    Args:
      scores: of P speakers.
      top_n: maximum number of positions.
    """
    candidates = np.arange(len(scores))
    if 0 < top_n < len(scores):
        lowest = np.partition(scores, len(scores) - top_n)[len(scores) - top_n]
        candidates = np.flatnonzero(scores >= lowest)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:top_n]
