"""Cosine softmax without a margin and with an additive one."""

from jax import Array
from jaxtyping import Float

from mqmha_jax.losses.inter_topk import subtract_margin
from mqmha_jax.losses.margins.margin import Example, Margin, Scalar
from mqmha_jax.models.head import largest_products


def softmax() -> Margin:
    """Inner products with prototypes of any length, no margin, no bias; ``loss.scale=1`` is the plain softmax.

    Metrics that speak of cosines then hold these inner products.
    """
    return Margin(_keep_cosine, similarity=largest_products)


def normface() -> Margin:
    """``s cos(theta)``, no margin (Wang et al., NormFace, arXiv 1704.06369)."""
    return Margin(_keep_cosine)


def am() -> Margin:
    """``s (cos(theta) - m)``: additive margin (Wang et al., arXiv 1801.05599: m = .35, s = 30; speakers: m = .2)."""
    return Margin(_am_target)


def _am_target(cosine: Float[Array, "*shape"], margin: Scalar, example: Example) -> Float[Array, "*shape"]:
    return subtract_margin(cosine, margin)


def _keep_cosine(cosine: Float[Array, "*shape"], margin: Scalar, example: Example) -> Float[Array, "*shape"]:
    return cosine
