"""The head: cosines between embeddings and the sub-centre prototypes of every speaker."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

_SQUARED_NORM_FLOOR = 1e-24  # a norm of 1e-12, as in PyTorch's normalize: zero vectors stay zero, gradients finite


def init_prototypes(key: Array, num_speakers: int, sub_centres: int, dim: int) -> Float[Array, "C K E"]:
    """Random directions of about unit length.

    Args:
      key: random key.
      num_speakers: C.
      sub_centres: K, prototypes per speaker.
      dim: E, size of the embedding.

    Returns:
      Prototypes in float32; :func:`nearest_cosines` brings them to unit length, so their norm carries no meaning.
    """
    return jax.random.normal(key, (num_speakers, sub_centres, dim), jnp.float32) * dim**-0.5


def unit_length(x: Float[Array, "*leading E"]) -> Float[Array, "*leading E"]:
    """Divides vectors by their Euclidean norm; a zero vector stays zero and gets a finite gradient."""
    return x * lax.rsqrt(jnp.maximum((x * x).sum(axis=-1, keepdims=True), _SQUARED_NORM_FLOOR))


def nearest_cosines(embedding: Float[Array, "B E"], prototypes: Float[Array, "C K E"]) -> Float[Array, "B C"]:
    """Cosine of each embedding to the nearest sub-centre of each speaker (Deng et al., Sub-center ArcFace, 2020).

    Args:
      embedding: of any length.
      prototypes: of any length.

    Returns:
      ``max_k cos(embedding, prototypes[:, k])``, of the precision of the arguments on every device. The gradient goes
      to the nearest sub-centre only, the first of them on a tie.
    """
    embedding = unit_length(embedding)
    prototypes = unit_length(prototypes)
    # One sub-centre after another: all that the backward pass keeps is which one was nearer, one byte per pair,
    # where a maximum over [B, C, K] would keep the cosines themselves and their gradient.
    nearest = _products(embedding, prototypes[:, 0])
    for k in range(1, prototypes.shape[1]):
        cosines = _products(embedding, prototypes[:, k])
        nearest = jnp.where(cosines > nearest, cosines, nearest)
    return nearest


def blended_cosines(
    embedding: Float[Array, "B E"], prototypes: Float[Array, "C K E"], temperature: float
) -> Float[Array, "B C"]:
    """Cosine to each speaker as a soft maximum over its sub-centres (Qian et al., SoftTriple, arXiv 1909.05235, eq. 5).

    Args:
      embedding: of any length.
      prototypes: of any length.
      temperature: gamma, in cosines; the paper has .1. Towards 0 it is :func:`nearest_cosines`.

    Returns:
      ``sum_k w_k cos_k`` with ``w = softmax_k(cos_k / gamma)``.
    """
    embedding = unit_length(embedding)
    prototypes = unit_length(prototypes)
    cosines = jnp.stack([_products(embedding, prototypes[:, k]) for k in range(prototypes.shape[1])])
    return (jax.nn.softmax(cosines / temperature, axis=0) * cosines).sum(axis=0)


def largest_products(embedding: Float[Array, "B E"], prototypes: Float[Array, "C K E"]) -> Float[Array, "B C"]:
    """``max_k <embedding, prototypes[:, k]>``: the plain softmax's logits, in which lengths count."""
    products = [_products(embedding, prototypes[:, k]) for k in range(prototypes.shape[1])]
    return functools.reduce(jnp.maximum, products)


def _products(embedding: Float[Array, "B E"], prototypes: Float[Array, "C E"]) -> Float[Array, "B C"]:
    return jnp.einsum("be,ce->bc", embedding, prototypes, precision=lax.Precision.HIGHEST)
