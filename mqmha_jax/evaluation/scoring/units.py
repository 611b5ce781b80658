"""Embeddings made ready for the cosine: checked, centred, scaled to unit length."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from mqmha_jax.errors import UserError
from mqmha_jax.models.head import unit_length
from mqmha_jax.types import Embeddings

_unit_length = jax.jit(unit_length)  # one program; without jit each of its operations is one


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
    """
    return embeddings if mean is None else Embeddings(embeddings.ids, embeddings.vectors - mean[None])


def scale_to_units(vectors: Float[np.ndarray, "N E"]) -> Float32[Array, "N E"]:
    """Embeddings ``[N, E]`` at unit length, in float32, on the device."""
    return _unit_length(jnp.asarray(vectors, jnp.float32))
