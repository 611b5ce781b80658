"""What a loss can do to the cosines of other speakers, one small function after another.

A :data:`NegativeShift` takes the values of some classes and returns them moved. ``margin_softmax`` applies a list of
shifts in order, so a new idea about negatives is one function here and one line in ``build.py``. The paper's own shift
is ``penalise_nearest`` in ``inter_topk.py``.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from mqmha_jax.losses.top_negatives import TopNegatives
from mqmha_jax.own_code.returns import call_elementwise

Scalar = Float[Array, ""] | float


class Negatives(NamedTuple):
    """What a shift may look at beside the values that it moves.

    Attributes:
      cosine: plain cosines of a slice of the classes. The example's own speaker may be among them; the class reducer
        drops whatever a shift returns there.
      speaker: their classes.
      target: ``t_y``, the own speaker's value after the margin, to broadcast.
      nearest: the nearest other speakers among all classes.
    """

    cosine: Float[Array, "B c"]
    speaker: Int[Array, " c"]
    target: Float[Array, "B 1"]
    nearest: TopNegatives


NegativeShift = Callable[[Float[Array, "B c"], Negatives], Float[Array, "B c"]]
Penalise = Callable[[Float[Array, "..."], Scalar], Float[Array, "..."]]


def raise_hard_negatives(weight: float) -> NegativeShift:
    """Raises negatives above the target to ``phi_j + w (phi_j + 1)``.

    Args:
      weight: w.

    References:
      Wang et al., MV-Softmax, arXiv 1912.00833, eq. 9 with t = 1 + w.
    """

    def shift(negative: Float[Array, "B c"], given: Negatives) -> Float[Array, "B c"]:
        return jnp.where(given.cosine > given.target, negative + weight * (negative + 1), negative)

    return shift


def penalise_above(threshold: Scalar, penalise: Penalise, penalty: Scalar) -> NegativeShift:
    """Penalises all speakers whose cosine is above a threshold: many for a hard example, none for an easy one.

    Args:
      threshold: a cosine.
      penalise: ``(phi_j, m') -> phi_j``.
      penalty: m'.
    """

    def shift(negative: Float[Array, "B c"], given: Negatives) -> Float[Array, "B c"]:
        penalised = call_elementwise("penalise", penalise, negative, penalty)
        return jnp.where(given.cosine > threshold, penalised, negative)

    return shift
