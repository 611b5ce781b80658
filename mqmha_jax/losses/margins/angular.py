"""Additive angular margins (Deng et al., ArcFace, arXiv 1801.07698)."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from mqmha_jax.losses.margins.pair import Example, MarginPair, Scalar

_NEAREST_TO_ONE = 1 - 1e-6  # the derivative of the angle is infinite at cos = +-1
_SQUARED_SINE_FLOOR = 1e-12  # at cos = +-1 the derivative of the sine is infinite; below the floor it is zero


def aam(easy_margin: bool = False) -> MarginPair:
    """``s cos(theta + m)`` (m = .5, s = 64 in the paper; for speakers m = .2, s = 30 to 36).

    Args:
      easy_margin: leave the cosine as it is where the angle is above a right one, as ArcFace's authors offer.
    """
    return MarginPair(aam_target if not easy_margin else _easy_target, penalise=aam_penalise)


def aam_target(
    cosine: Float[Array, "*shape"], margin: Scalar, example: Example | None = None
) -> Float[Array, "*shape"]:
    """``cos(theta + m)``.

    Where ``theta + m`` passes pi the cosine would rise again; there the target goes on as the straight line
    ``cos(theta) - (1 + cos(pi - m))``, which continues it without a jump.
    """
    wrapped = cosine < -jnp.cos(margin)
    line = cosine - 1 + jnp.cos(margin)
    return jnp.where(wrapped, line, _turned(cosine, margin))


def aam_penalise(cosine: Float[Array, "*shape"], penalty: Scalar) -> Float[Array, "*shape"]:
    """``cos(theta - m')``: the inter-topK penalty beside an additive angular margin (arXiv 2110.05042)."""
    return cosine * jnp.cos(penalty) + _sine(cosine) * jnp.sin(penalty)


def angle(cosine: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``theta``, radians, with a finite derivative everywhere."""
    return jnp.arccos(jnp.clip(cosine, -_NEAREST_TO_ONE, _NEAREST_TO_ONE))


def _easy_target(cosine: Float[Array, "*shape"], margin: Scalar, example: Example) -> Float[Array, "*shape"]:
    return jnp.where(cosine > 0, _turned(cosine, margin), cosine)


def _turned(cosine: Float[Array, "*shape"], margin: Scalar) -> Float[Array, "*shape"]:
    return cosine * jnp.cos(margin) - _sine(cosine) * jnp.sin(margin)


def _sine(cosine: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.sqrt(jnp.maximum((1 - cosine) * (1 + cosine), _SQUARED_SINE_FLOOR))
