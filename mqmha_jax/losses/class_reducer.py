"""What a loss needs to know about all classes, behind one contract.

A loss never sees ``[B,C]``: it asks a reducer for the target's cosine, the nearest others and a log-sum-exp. Only the
reducer knows the layout of the classes: ``DenseClasses`` and ``ChunkedClasses`` hold them on one device, whole or a
chunk at a time, and ``ShardedClasses`` joins devices that hold one slice each.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, Int32

from mqmha_jax.losses.top_negatives import NEVER, TopNegatives, find_top_negatives
from mqmha_jax.models.head import nearest_cosines

LogitFunction = Callable[[Float[Array, "B c"], Int[Array, " c"]], Float[Array, "B c"]]
Similarity = Callable[[Float[Array, "B E"], Float[Array, "c K E"]], Float[Array, "B c"]]


class ClassSlice(NamedTuple):
    """Adjacent classes of the head, and the batch that is compared with them.

    Attributes:
      embedding: embeddings of any length.
      prototypes: prototypes of the classes ``first`` to ``first + c - 1``, of any length.
      speaker: target class of each example, inside or outside this slice.
      num_classes: C of all slices together; rows from C on are padding.
      first: the slice's first class.
    """

    embedding: Float[Array, "B E"]
    prototypes: Float[Array, "c K E"]
    speaker: Int32[Array, " B"]
    num_classes: int
    first: Int32[Array, ""] | int = 0


@runtime_checkable
class ClassReducer(Protocol):
    """Cosines of a batch to all classes; each example has one target and ``C - 1`` negatives."""

    @property
    def num_classes(self) -> int:
        """C."""

    def target_cosine(self) -> Float[Array, " B"]:
        """Returns each example's cosine to its own speaker."""

    def top_negatives(self, k: int) -> TopNegatives:
        """Finds the ``k >= 1`` nearest other speakers, without gradient."""

    def log_sum_exp(self, logits: LogitFunction) -> Float[Array, " B"]:
        """``log sum_j exp(logits_j)`` over the negatives.

        Args:
          logits: maps cosines ``[B,c]`` of some classes, and these classes ``[c]``, to logits ``[B,c]``, elementwise.
        """

    def sum(self, values: LogitFunction) -> Float[Array, " B"]:
        """``sum_j values_j`` over the negatives; ``values`` is a function like ``logits`` above."""


class DenseClasses(NamedTuple):
    """All cosines of a slice in one array, for numbers of classes whose ``[B,C]`` fits on a device.

    Attributes:
      cosine: cosines of the slice.
      speaker, num_classes, first: as in :class:`ClassSlice`.
    """

    cosine: Float[Array, "B c"]
    speaker: Int32[Array, " B"]
    num_classes: int
    first: Int32[Array, ""] | int = 0

    @classmethod
    def of(cls, part: ClassSlice, similarity: Similarity = nearest_cosines) -> "DenseClasses":
        """Computes the cosines of a slice, or what a loss takes in their place."""
        cosine = similarity(part.embedding, part.prototypes)
        return cls(cosine, part.speaker, part.num_classes, part.first)

    def target_cosine(self) -> Float[Array, " B"]:
        """See :class:`ClassReducer`; 0 for a target outside the slice.

        A masked sum, because the gradient of a gather is a scatter, which accelerators run slowly.
        """
        return jnp.where(self._classes()[None, :] == self.speaker[:, None], self.cosine, 0).sum(axis=1)

    def top_negatives(self, k: int) -> TopNegatives:
        """See :class:`ClassReducer`; returns all classes of a slice with fewer than ``k``."""
        return find_top_negatives(self.cosine, self._is_negative(), k, self.first)

    def log_sum_exp(self, logits: LogitFunction) -> Float[Array, " B"]:
        """See :class:`ClassReducer`."""
        # Not minus infinity for the classes left out: a slice may hold no negative, and its gradient would be NaN.
        return jax.nn.logsumexp(self._negatives(logits(self.cosine, self._classes()), NEVER), axis=1)

    def sum(self, values: LogitFunction) -> Float[Array, " B"]:
        """See :class:`ClassReducer`."""
        return self._negatives(values(self.cosine, self._classes()), 0.0).sum(axis=1)

    def _negatives(self, values: Float[Array, "B c"], otherwise: float) -> Float[Array, "B c"]:
        return jnp.where(self._is_negative(), values, otherwise)

    def _is_negative(self) -> Bool[Array, "B c"]:
        classes = self._classes()
        return (classes[None, :] != self.speaker[:, None]) & (classes < self.num_classes)[None, :]

    def _classes(self) -> Int32[Array, " c"]:
        return self.first + jnp.arange(self.cosine.shape[1], dtype=jnp.int32)
