"""What a margin and the inter-topK penalty do to a single cosine. Elementwise, so any class layout can use them."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

_SQUARED_SINE_FLOOR = 1e-12  # at cos = +-1 the derivative of the sine is infinite; below the floor it is zero


class MarginPair(NamedTuple):
    """How one loss treats the speaker's own cosine and the others'.

    Attributes:
      target: ``(cosine, margin) -> t_y``, of the speaker's own cosine.
      negative: ``(cosine, target_cosine) -> phi_j``, of the other speakers' cosines.
      penalise: ``(cosine, penalty) -> phi_j``, of the ``top_k`` nearest others (arXiv 2110.05042).
    """

    target: Callable[[Float[Array, "..."], Float[Array, ""] | float], Float[Array, "..."]]
    negative: Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]]
    penalise: Callable[[Float[Array, "..."], Float[Array, ""] | float], Float[Array, "..."]]


def am_target(cosine: Float[Array, "*shape"], margin: Float[Array, ""] | float) -> Float[Array, "*shape"]:
    """``cos(theta) - m``: additive margin (Wang et al., arXiv 1801.05599)."""
    return cosine - margin


def aam_target(cosine: Float[Array, "*shape"], margin: Float[Array, ""] | float) -> Float[Array, "*shape"]:
    """``cos(theta + m)``: additive angular margin (Deng et al., ArcFace, arXiv 1801.07698).

    Where ``theta + m`` passes pi the cosine would rise again; there the target goes on as the straight line
    ``cos(theta) - (1 + cos(pi - m))``, which continues it without a jump.
    """
    wrapped = cosine < -jnp.cos(margin)
    line = cosine - 1 + jnp.cos(margin)
    return jnp.where(wrapped, line, cosine * jnp.cos(margin) - _sine(cosine) * jnp.sin(margin))


def am_penalise(cosine: Float[Array, "*shape"], penalty: Float[Array, ""] | float) -> Float[Array, "*shape"]:
    """``cos(theta) + m'``: the inter-topK penalty beside an additive margin (arXiv 2110.05042)."""
    return cosine + penalty


def aam_penalise(cosine: Float[Array, "*shape"], penalty: Float[Array, ""] | float) -> Float[Array, "*shape"]:
    """``cos(theta - m')``: the inter-topK penalty beside an additive angular margin (arXiv 2110.05042)."""
    return cosine * jnp.cos(penalty) + _sine(cosine) * jnp.sin(penalty)


def _sine(cosine: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.sqrt(jnp.maximum((1 - cosine) * (1 + cosine), _SQUARED_SINE_FLOOR))


def _no_margin(cosine: Float[Array, "*shape"], margin: Float[Array, ""] | float) -> Float[Array, "*shape"]:
    return cosine


def _unchanged(cosine: Float[Array, "..."], target_cosine: Float[Array, "..."]) -> Float[Array, "..."]:
    return cosine


MARGINS: dict[str, MarginPair] = {
    "softmax": MarginPair(_no_margin, _unchanged, am_penalise),
    "am": MarginPair(am_target, _unchanged, am_penalise),
    "aam": MarginPair(aam_target, _unchanged, aam_penalise),
}
