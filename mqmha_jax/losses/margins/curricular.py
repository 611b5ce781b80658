"""A margin with a curriculum of negatives (Huang et al., CurricularFace, arXiv 2004.00288)."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from mqmha_jax.losses.margins.angular import aam_target
from mqmha_jax.losses.margins.margin import Example, Margin, Scalar, Scalars


def curricular(rate: float = 0.01) -> Margin:
    """AAM that replaces hard negatives, ``cos(theta_j) > cos(theta_y + m)``, by ``cos(theta_j) (t + cos(theta_j))``.

    The running mean t of the target cosines rises from 0 to about 1, so training stresses easy negatives first and hard
    ones later (eq. 5 to 8; m = .5, s = 64, rate = .01 in the paper). Here a step uses the t of the steps before it.

    Args:
      rate: weight of the newest batch in t.
    """

    def negative(
        cosine: Float[Array, "..."], target: Float[Array, "..."], margin: Scalar, example: Example
    ) -> Float[Array, "..."]:
        return jnp.where(cosine > target, cosine * (example.state["t"] + cosine), cosine)

    def update(state: Scalars, norm: Float[Array, " B"], target_cosine: Float[Array, " B"]) -> Scalars:
        return {"t": rate * target_cosine.mean() + (1 - rate) * state["t"]}

    return Margin(aam_target, negative, init_state={"t": 0.0}, update=update)
