"""A binary decision for every class (Wen et al., SphereFace2, arXiv 2108.01513)."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from mqmha_jax.losses.cross_entropy import binary_cross_entropy
from mqmha_jax.losses.margins.margin import Example, Margin, Scalar


def sphereface2(positive_share: float = 0.7, power: float = 3.0) -> Margin:
    """Logits ``s (g(cos) -+ m) + b`` with ``g(c) = 2 ((c + 1) / 2)^t - 1`` and a learned b (eq. 6).

    The paper uses lambda = .7, s = 40, m = .4, t = 3; for speakers, Han et al. (arXiv 2307.08205) m = .2, s = 32.

    Args:
      positive_share: lambda, weight of the example's own class.
      power: t, which widens the range of the negatives' cosines.
    """

    def stretch(cosine: Float[Array, "..."]) -> Float[Array, "..."]:
        # Rounding gives cosines just below -1, and a negative number has no fractional power.
        return 2 * jnp.maximum((cosine + 1) / 2, 0) ** power - 1

    def target(cosine: Float[Array, "..."], margin: Scalar, example: Example) -> Float[Array, "..."]:
        return stretch(cosine) - margin

    def negative(
        cosine: Float[Array, "..."], target: Float[Array, "..."], margin: Scalar, example: Example
    ) -> Float[Array, "..."]:
        return stretch(cosine) + margin

    def logit(value: Float[Array, "..."], scale: Scalar, example: Example) -> Float[Array, "..."]:
        return scale * value + example.params["bias"]

    return Margin(
        target,
        negative,
        logit=logit,
        classification=binary_cross_entropy(positive_share),
        init_params={"bias": 0.0},
    )
