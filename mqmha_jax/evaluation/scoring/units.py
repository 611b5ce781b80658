"""Prepares embeddings for the cosine: checks, centres and scales them to unit length."""

from collections import Counter
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.numbers import Numbers, as_numbers, require_direction
from mqmha_jax.models.head import unit_length
from mqmha_jax.types import Embeddings

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
    _check_number(ids, vectors, what)
    if len(set(ids)) != len(ids):
        twice = next(utterance for utterance, count in Counter(ids).items() if count > 1)
        raise UserError(f"Utterance {twice!r} has more than one embedding; valid: one embedding per utterance id.")
    require_direction(vectors, ids, what=what)
    return Embeddings(ids, vectors)


def centre(embeddings: Embeddings, mean: Numbers | None) -> Embeddings:
    """Subtracts a mean embedding, usually that of the training set, before cosines are taken.

    Args:
      embeddings: N utterances, vectors ``[N, E]``.
      mean: ``[E]``, as an array or as a list; None returns the embeddings as they are.

    Raises:
      UserError: the mean does not hold numbers, the sizes differ, or ids and vectors differ in number.
    """
    if mean is None:
        return embeddings
    vectors = as_numbers(embeddings.vectors, "embeddings")
    _check_number(embeddings.ids, vectors, "embeddings")
    mean = as_numbers(mean, "values of the mean")
    if mean.shape != vectors.shape[1:]:
        raise UserError(f"The mean has shape {mean.shape}, the embeddings {vectors.shape}; valid: [E] and [N, E].")
    return Embeddings(embeddings.ids, vectors - mean[None])


def _check_number(ids: Sequence[str], vectors: np.ndarray, what: str) -> None:
    if vectors.ndim != 2 or len(vectors) != len(ids):
        raise UserError(f"There are {len(ids)} ids and {what} of shape {vectors.shape}; valid: N ids and shape [N, E].")


def scale_to_units(vectors: Float[np.ndarray, "N E"]) -> Float32[Array, "N E"]:
    """Embeddings ``[N, E]`` at unit length, in float32, on the device."""
    return _unit_length(jnp.asarray(vectors, jnp.float32))
