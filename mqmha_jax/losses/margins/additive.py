"""Cosine softmax without a margin and with an additive one."""

from jax import Array
from jaxtyping import Float

from mqmha_jax.losses.inter_topk import subtract_margin
from mqmha_jax.losses.margins.pair import Example, MarginPair, Scalar
from mqmha_jax.models.head import largest_products


def softmax() -> MarginPair:
    """Inner products with prototypes of any length, no margin, no bias; ``loss.scale=1`` is the plain softmax.

    Metrics that speak of cosines then hold these inner products.
    """
    return MarginPair(_keep_cosine, similarity=largest_products)


def normface() -> MarginPair:
    """``s cos(theta)``, no margin (Wang et al., NormFace, arXiv 1704.06369)."""
    return MarginPair(_keep_cosine)


def am() -> MarginPair:
    """``s (cos(theta) - m)``: additive margin (Wang et al., arXiv 1801.05599: m = .35, s = 30; speakers: m = .2)."""
    return MarginPair(_am_target)


def _am_target(cosine: Float[Array, "*shape"], margin: Scalar, example: Example) -> Float[Array, "*shape"]:
    return subtract_margin(cosine, margin)


def _keep_cosine(cosine: Float[Array, "*shape"], margin: Scalar, example: Example) -> Float[Array, "*shape"]:
    return cosine
