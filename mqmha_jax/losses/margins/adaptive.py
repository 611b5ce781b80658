"""A margin that depends on the quality of the example (Kim et al., AdaFace, arXiv 2204.00964)."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from mqmha_jax.losses.angles import angle
from mqmha_jax.losses.margins.margin import Example, Margin, Scalar, Scalars


def adaface(concentration: float = 0.333, rate: float = 0.01) -> Margin:
    """``cos(theta - m z) - (m + m z)``, where z in -1 ... 1 is the normalised length of the embedding (eq. 14 to 17).

    Long embeddings belong to clear examples and get an angular margin that stresses the hard ones; short embeddings get
    an additive margin that spares them. The paper uses m = .4, s = 64, h = .333, rate = .01. Mean and deviation of the
    lengths come from the steps before, corrected for their start at zero; at the first step z is 0.

    Args:
      concentration: h; z reaches -1 or 1 where a length lies 1 / h deviations from the mean.
      rate: weight of the newest batch in mean and deviation.
    """

    def target(cosine: Float[Array, "..."], margin: Scalar, example: Example) -> Float[Array, "..."]:
        state, norm = example.state, lax.stop_gradient(example.norm)
        known = jnp.maximum(state["weight"], rate)
        mean, deviation = state["mean"] / known, state["deviation"] / known
        z = jnp.clip(concentration * (norm - mean) / (deviation + 1e-3), -1, 1)
        z = jnp.where(state["weight"] > 0, z, 0)
        theta = angle(cosine)
        return jnp.cos(jnp.clip(theta - margin * z, 0, jnp.pi)) - margin * (1 + z)

    def update(state: Scalars, norm: Float[Array, " B"], target_cosine: Float[Array, " B"]) -> Scalars:
        newest = {"mean": norm.mean(), "deviation": norm.std(), "weight": jnp.ones(())}
        return {name: rate * value + (1 - rate) * state[name] for name, value in newest.items()}

    return Margin(target, init_state={"mean": 0.0, "deviation": 0.0, "weight": 0.0}, update=update)
