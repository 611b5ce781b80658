"""What a loss needs to know about all classes, behind one contract.

A loss never sees ``[B, C]``: it asks a reducer for the target's cosine, the nearest others and a log-sum-exp. How the
classes are laid out (one array, sharded over devices, in chunks) is the reducer's business alone.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int, Int32

from mqmha_jax.losses.inter_topk import TopNegatives

LogitFunction = Callable[[Float[Array, "B c"], Int[Array, " c"]], Float[Array, "B c"]]


@runtime_checkable
class ClassReducer(Protocol):
    """Cosines of a batch to all classes, of which each example has one target and ``C - 1`` negatives."""

    def target_cosine(self) -> Float[Array, " B"]:
        """Cosine to the example's own speaker."""

    def top_negatives(self, k: int) -> TopNegatives:
        """The ``k >= 1`` nearest other speakers, without gradient."""

    def log_sum_exp(self, logits: LogitFunction) -> Float[Array, " B"]:
        """``log sum_j exp(logits_j)`` over the negatives.

        Args:
          logits: from cosines ``[B,c]`` of some classes and their numbers ``[c]`` to logits ``[B,c]``, elementwise.
        """


class DenseClasses(NamedTuple):
    """All cosines in one array: for class counts whose ``[B, C]`` fits on a device.

    Attributes:
      cosine: ``[B,C]``.
      speaker: the target class of each example.
    """

    cosine: Float[Array, "B C"]
    speaker: Int32[Array, " B"]

    def target_cosine(self) -> Float[Array, " B"]:
        """See :class:`ClassReducer`. A masked sum, because the gradient of a gather is a scatter."""
        return jnp.where(self._is_target(), self.cosine, 0).sum(axis=1)

    def top_negatives(self, k: int) -> TopNegatives:
        """See :class:`ClassReducer`."""
        negatives = jnp.where(self._is_target(), -jnp.inf, lax.stop_gradient(self.cosine))
        # Without the barrier XLA:CPU merges later slices into the top-k and then sorts all classes, 30 times slower.
        return TopNegatives(*lax.optimization_barrier(lax.top_k(negatives, k)))

    def log_sum_exp(self, logits: LogitFunction) -> Float[Array, " B"]:
        """See :class:`ClassReducer`."""
        negatives = jnp.where(self._is_target(), -jnp.inf, logits(self.cosine, self._classes()))
        return jax.nn.logsumexp(negatives, axis=1)

    def _classes(self) -> Int32[Array, " C"]:
        return jnp.arange(self.cosine.shape[1], dtype=jnp.int32)

    def _is_target(self) -> Bool[Array, "B C"]:
        return self._classes()[None, :] == self.speaker[:, None]
