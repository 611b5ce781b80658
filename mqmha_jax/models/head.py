"""The head: cosines between embeddings and the sub-centre prototypes of every speaker."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from mqmha_jax.models.full_precision import sum_products

_SQUARED_NORM_FLOOR = 1e-24  # a norm of 1e-12: a shorter vector has no direction


def init_prototypes(key: Array, num_speakers: int, sub_centres: int, dim: int) -> Float[Array, "C K E"]:
    """Draws prototypes: random directions of about unit length.

    Args:
      key: random key.
      num_speakers: C.
      sub_centres: K, prototypes per speaker.
      dim: E, size of the embedding.

    Returns:
      Prototypes in float32. :func:`nearest_cosines` divides by their length, which only decides how fast they turn: a
      step of Adam turns a long one by a smaller angle. Prototypes of length 11 cost a TDNN in PyTorch six points of EER
      (docs/learning.md).
    """
    return jax.random.normal(key, (num_speakers, sub_centres, dim), jnp.float32) * dim**-0.5


def unit_length(x: Float[Array, "*leading E"]) -> Float[Array, "*leading E"]:
    """Divides vectors by their Euclidean norm; a zero vector stays zero and gets no gradient."""
    return x * _inverse_length(x, keepdims=True)


def _inverse_length(x: Float[Array, "*leading E"], *, keepdims: bool = False) -> Float[Array, "..."]:
    """``1 / |x|``, and 0 for a zero vector, whose gradient would otherwise be 10^12 times as large as any other's."""
    squared = (x * x).sum(axis=-1, keepdims=keepdims)
    has_direction = squared > _SQUARED_NORM_FLOOR
    return jnp.where(has_direction, lax.rsqrt(jnp.where(has_direction, squared, 1)), 0)


def nearest_cosines(embedding: Float[Array, "B E"], prototypes: Float[Array, "C K E"]) -> Float[Array, "B C"]:
    """Cosine of each embedding to the nearest sub-centre of each speaker (Deng et al., Sub-center ArcFace, 2020).

    Args:
      embedding: embeddings of any length.
      prototypes: prototypes of any length.

    Returns:
      ``max_k cos(embedding, prototypes[:, k])``, in the precision of the arguments on every device. The gradient goes
      to the nearest sub-centre only; on a tie, to the first of them.
    """
    return _nearest(unit_length(embedding), prototypes)


# The gradient is written out because memory limits a head with many speakers. JAX's own gradient would keep the cosines
# to every sub-centre, K arrays [B,C]. This one keeps the result and one byte per pair: which sub-centre was nearest.
@jax.custom_vjp
def _nearest(unit: Float[Array, "B E"], prototypes: Float[Array, "C K E"]) -> Float[Array, "B C"]:
    return _nearest_forward(unit, prototypes)[0]


def _nearest_forward(unit: Array, prototypes: Array) -> tuple[Array, tuple[Array, ...]]:
    # Dividing the products [B,C] by the prototypes' lengths spares a copy of the prototypes [C,K,E] at unit length, the
    # largest array of a training step.
    inverse_length = _inverse_length(prototypes)
    nearest = _products(unit, prototypes[:, 0]) * inverse_length[None, :, 0]
    which = jnp.zeros_like(nearest, jnp.int8 if prototypes.shape[1] < 128 else jnp.int32)
    for k in range(1, prototypes.shape[1]):
        cosines = _products(unit, prototypes[:, k]) * inverse_length[None, :, k]
        nearer = cosines > nearest
        nearest, which = jnp.where(nearer, cosines, nearest), jnp.where(nearer, k, which)
    return nearest, (unit, prototypes, inverse_length, nearest, which)


def _nearest_backward(kept: tuple[Array, ...], gradient: Float[Array, "B C"]) -> tuple[Array, Array]:
    unit, prototypes, inverse_length, nearest, which = kept
    to_unit, across, along = jnp.zeros_like(unit), [], []
    for k in range(prototypes.shape[1]):
        own = jnp.where(which == k, gradient, 0)
        scaled = own * inverse_length[None, :, k]
        to_unit += sum_products("bc,ce->be", scaled, prototypes[:, k])
        across.append(sum_products("bc,be->ce", scaled, unit))
        along.append((own * nearest).sum(axis=0) * inverse_length[:, k] ** 2)
    # A prototype's length does not change the cosine, so its gradient must be perpendicular to it: the part along it is
    # subtracted.
    return to_unit, jnp.stack(across, axis=1) - jnp.stack(along, axis=1)[..., None] * prototypes


_nearest.defvjp(_nearest_forward, _nearest_backward)


def blend_cosines(
    embedding: Float[Array, "B E"], prototypes: Float[Array, "C K E"], temperature: float
) -> Float[Array, "B C"]:
    """Cosine to each speaker as a soft maximum over its sub-centres (Qian et al., SoftTriple, arXiv 1909.05235, eq. 5).

    Args:
      embedding: embeddings of any length.
      prototypes: prototypes of any length.
      temperature: gamma, in cosines; the paper uses .1. As it approaches 0 the result approaches
        :func:`nearest_cosines`.

    Returns:
      ``sum_k w_k cos_k`` with ``w = softmax_k(cos_k / gamma)``.
    """
    # All K cosines are kept for the gradient here: every sub-centre gets a share of it, so nothing can be left out.
    embedding = unit_length(embedding)
    prototypes = unit_length(prototypes)
    cosines = jnp.stack([_products(embedding, prototypes[:, k]) for k in range(prototypes.shape[1])])
    return (jax.nn.softmax(cosines / temperature, axis=0) * cosines).sum(axis=0)


def largest_products(embedding: Float[Array, "B E"], prototypes: Float[Array, "C K E"]) -> Float[Array, "B C"]:
    """``max_k <embedding, prototypes[:, k]>``: the plain softmax's logits, where lengths count."""
    products = [_products(embedding, prototypes[:, k]) for k in range(prototypes.shape[1])]
    return functools.reduce(jnp.maximum, products)


def _products(embedding: Float[Array, "B E"], prototypes: Float[Array, "C E"]) -> Float[Array, "B C"]:
    return sum_products("be,ce->bc", embedding, prototypes)
