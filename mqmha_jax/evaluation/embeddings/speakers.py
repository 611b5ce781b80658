"""Grouping utterances by speaker: an evenly spaced sample of each, sums and means of each."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int, Int64, Shaped

from mqmha_jax.models.head import unit_length


def sample_per_speaker(speaker: Shaped[np.ndarray, " N"], per_speaker: int) -> Int64[np.ndarray, " n"]:
    """Rows of a sample of utterances of each speaker, evenly spaced over all of them, and so over all sessions.

    Args:
      speaker: ``[N]`` speaker of each utterance, as numbers or names.
      per_speaker: maximum number of utterances of each.

    Returns:
      ``[n]`` rows, ascending.
    """
    order = np.argsort(speaker, kind="stable")
    starts = np.unique(speaker[order], return_index=True)[1]
    of_speakers = np.split(order, starts[1:])
    kept = [own[np.linspace(0, len(own) - 1, min(len(own), per_speaker)).round().astype(int)] for own in of_speakers]
    return np.sort(np.concatenate(kept))


def sum_per_speaker(vectors: Float[np.ndarray, "N E"], index: Int[np.ndarray, " N"]) -> Float[np.ndarray, "C E"]:
    """Sum of the embeddings of each speaker; ``index`` counts the speakers from 0, without gaps."""
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(index.max() + 1))
    return np.add.reduceat(vectors[order], starts, axis=0)


def average_units(vectors: Float[np.ndarray, "N E"], speaker: Shaped[np.ndarray, " N"]) -> Float32[np.ndarray, "C E"]:
    """Mean of the unit-length embeddings of each speaker, in the order of ``np.unique(speaker)``."""
    units = np.asarray(unit_length(jnp.asarray(vectors)))
    _, index, counts = np.unique(speaker, return_inverse=True, return_counts=True)
    return (sum_per_speaker(units.astype(np.float64), index) / counts[:, None]).astype(np.float32)
