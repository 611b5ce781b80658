"""Embeddings made ready for the cosine: checked, centred, scaled to unit length."""

from collections import Counter
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.numbers import as_numbers
from mqmha_jax.models.head import unit_length
from mqmha_jax.types import Embeddings

# Lengths whose squares float32 holds with all its digits, summed over thousands of dimensions.
_SHORTEST, _LONGEST = 1e-10, 1e15

_unit_length = jax.jit(unit_length)  # one program; without jit each of its operations is one


def check_embeddings(embeddings: Embeddings, *, what: str = "embeddings") -> Embeddings:
    """Refuses embeddings that have no cosine.

    Args:
      embeddings: N ids, and vectors ``[N, E]`` as an array or as nested lists.
      what: what the message calls the embeddings.

    Returns:
      The same, with the vectors as a NumPy array.

    Raises:
      UserError: the vectors are not numbers ``[N, E]``, an id comes twice, or an embedding is not finite, has length 0,
        or a length whose square float32 cannot hold.
    """
    ids, vectors = tuple(embeddings.ids), as_numbers(embeddings.vectors, what)
    if vectors.ndim != 2 or len(vectors) != len(ids):
        raise UserError(f"There are {len(ids)} ids and {what} of shape {vectors.shape}; valid: N ids and shape [N, E].")
    if len(set(ids)) != len(ids):
        twice = next(utterance for utterance, count in Counter(ids).items() if count > 1)
        raise UserError(f"Utterance {twice!r} has more than one embedding; valid: one embedding per utterance id.")
    require_direction(vectors, ids, what=what)
    return Embeddings(ids, vectors)


def require_direction(
    vectors: Float[np.ndarray, "N E"], ids: Sequence[str] | None = None, *, what: str = "embeddings"
) -> None:
    """Refuses embeddings without a direction that float32 can tell; arguments as for ``require_finite``.

    Raises:
      UserError: one is not finite, has length 0 (after the mean is subtracted), or is too short or too long.
    """
    require_finite(vectors, ids, what=what)
    largest = np.abs(vectors).max(axis=1, initial=0)  # within a factor of sqrt(E) of the length, and never overflows
    wrong = np.flatnonzero((largest < _SHORTEST) | (largest > _LONGEST))
    if wrong.size:
        first = f"number {wrong[0] + 1}" if ids is None else f"that of {ids[wrong[0]]!r}"
        raise UserError(
            f"{wrong.size} of the {len(vectors)} {what} have no usable length, the first is {first} (largest value "
            f"{largest[wrong[0]]:.3g}); valid: {_SHORTEST:g} to {_LONGEST:g}. Leave them out, or scale all embeddings."
        )


def require_finite(
    vectors: Float[np.ndarray, "N E"], ids: Sequence[str] | None = None, *, what: str = "embeddings"
) -> None:
    """Refuses embeddings that contain nan or infinity.

    Args:
      vectors: ``[N, E]``.
      ids: names of the N utterances, for the message; None: the message counts from 1.
      what: what the message calls the embeddings.

    Raises:
      UserError: one is nan or infinite.
    """
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if broken.size:
        first = f"number {broken[0] + 1}" if ids is None else f"that of {ids[broken[0]]!r}"
        raise UserError(
            f"{broken.size} of the {len(vectors)} {what} are not finite, the first is {first}; leave them out, or "
            "check their audio and that the training of the network did not diverge."
        )


def centre(embeddings: Embeddings, mean: Float[np.ndarray, " E"] | None) -> Embeddings:
    """Subtracts a mean embedding, usually that of the training set, before cosines are taken.

    Args:
      embeddings: N utterances, vectors ``[N, E]``.
      mean: ``[E]``; None returns the embeddings as they are.

    Raises:
      UserError: the sizes differ.
    """
    if mean is None:
        return embeddings
    vectors = as_numbers(embeddings.vectors, "embeddings")
    if vectors.ndim != 2 or mean.shape != vectors.shape[1:]:
        raise UserError(f"The mean has shape {mean.shape}, the embeddings {vectors.shape}; valid: [E] and [N, E].")
    return Embeddings(embeddings.ids, vectors - mean[None])


def scale_to_units(vectors: Float[np.ndarray, "N E"]) -> Float32[Array, "N E"]:
    """Embeddings ``[N, E]`` at unit length, in float32, on the device."""
    return _unit_length(jnp.asarray(vectors, jnp.float32))
