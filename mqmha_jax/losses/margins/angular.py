"""Additive angular margins (Deng et al., ArcFace, arXiv 1801.07698)."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from mqmha_jax.losses.angles import turn, widen
from mqmha_jax.losses.inter_topk import penalise_angle
from mqmha_jax.losses.margins.margin import Example, Margin, Scalar


def aam(easy_margin: bool = False) -> Margin:
    """``s cos(theta + m)`` (m = .5, s = 64 in the paper; for speakers m = .2, s = 30 to 36).

    Args:
      easy_margin: leaves the cosine as it is where the angle is above a right one, as ArcFace's authors offer.
    """
    return Margin(_easy_target if easy_margin else aam_target, penalise=penalise_angle)


def aam_target(cosine: Float[Array, "*shape"], margin: Scalar, example: Example) -> Float[Array, "*shape"]:
    """``cos(theta + m)``; see :func:`mqmha_jax.losses.angles.widen`."""
    return widen(cosine, margin)


def _easy_target(cosine: Float[Array, "*shape"], margin: Scalar, example: Example) -> Float[Array, "*shape"]:
    return jnp.where(cosine > 0, turn(cosine, margin), cosine)
