"""Cosines of angles that grow or shrink, with finite derivatives everywhere; elementwise."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

Radians = Float[Array, ""] | float

_NEAREST_TO_ONE = 1 - 1e-6  # the derivative of the angle is infinite at cos = +-1
_SQUARED_SINE_FLOOR = 1e-12  # at cos = +-1 the derivative of the sine is infinite; below the floor it is zero


def angle(cosine: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``theta``, radians."""
    return jnp.arccos(jnp.clip(cosine, -_NEAREST_TO_ONE, _NEAREST_TO_ONE))


def turn(cosine: Float[Array, "*shape"], radians: Radians) -> Float[Array, "*shape"]:
    """``cos(theta + radians)`` by the addition theorem: no arccos, whose derivative is infinite at both ends."""
    return cosine * jnp.cos(radians) - _sine(cosine) * jnp.sin(radians)


def widen(cosine: Float[Array, "*shape"], margin: Radians) -> Float[Array, "*shape"]:
    """``cos(theta + m)``, falling over the whole half circle.

    Where ``theta + m`` passes pi the cosine would rise again and pull the example away from its speaker. There the line
    ``cos(theta) - (1 + cos(pi - m))`` continues it without a jump.
    """
    # theta + m > pi, said of cosines: comparing angles would need the arccos again.
    past_the_end = cosine < -jnp.cos(margin)
    line = cosine - 1 + jnp.cos(margin)
    return jnp.where(past_the_end, line, turn(cosine, margin))


def narrow(cosine: Float[Array, "*shape"], penalty: Radians) -> Float[Array, "*shape"]:
    """``cos(theta - m')``, falling over the whole half circle.

    Where ``theta`` is below ``m'`` the cosine would fall again and pull the example towards another speaker. There the
    line ``cos(theta) + (1 - cos(m'))`` continues it without a jump.
    """
    # theta < m', said of cosines: comparing angles would need the arccos.
    before_the_start = cosine > jnp.cos(penalty)
    line = cosine + 1 - jnp.cos(penalty)
    return jnp.where(before_the_start, line, turn(cosine, -penalty))


def _sine(cosine: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.sqrt(jnp.maximum((1 - cosine) * (1 + cosine), _SQUARED_SINE_FLOOR))
