"""A margin that multiplies the angle (Liu et al., SphereFace, arXiv 1704.08063)."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from mqmha_jax.losses.angles import angle
from mqmha_jax.losses.margins.margin import Example, Margin, Scalar


def a_softmax(keep_length: bool = True) -> Margin:
    """``|x| psi(theta)``, where psi continues ``cos((1 + m) theta)`` monotonically (eq. 7 of the paper).

    The factor of the angle, m in the paper, is ``1 + loss.margin`` here: margin 0 means no margin, and the factor grows
    with the schedule, where the paper mixes two losses. The paper's factor 4 is ``loss.margin=3``.

    Args:
      keep_length: True multiplies the logits by the embedding's length, as in the paper; False by ``loss.scale``.
    """
    if keep_length:
        return Margin(_target, logit=lambda value, scale, example: example.norm * value)
    return Margin(_target)


def _target(cosine: Float[Array, "*shape"], margin: Scalar, example: Example) -> Float[Array, "*shape"]:
    """``(-1)^k cos(f theta) - 2 k`` for ``f theta`` in ``[k pi, (k + 1) pi]``, f = 1 + margin."""
    turned = (1 + margin) * angle(cosine)
    k = lax.stop_gradient(jnp.floor(turned / jnp.pi))
    return (1 - 2 * (k % 2)) * jnp.cos(turned) - 2 * k
