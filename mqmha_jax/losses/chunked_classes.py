"""The class reducer that never holds ``[B,C]``: it scans chunks of classes, and scans them again for the gradient."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from mqmha_jax.losses.class_reducer import ClassSlice, DenseClasses, LogitFunction, Similarity
from mqmha_jax.losses.top_negatives import NEVER, TopNegatives, merge_chunks, start_without_negatives
from mqmha_jax.models.head import nearest_cosines

Carry = TypeVar("Carry")


class ChunkedClasses(NamedTuple):
    """A slice of the classes, ``chunk`` of them at a time: memory ``[B,chunk]`` forward and backward.

    The price is time: cosines are computed twice forward, for the nearest speakers and for the log-sum-exp, and once
    more backward.

    Attributes:
      part: batch and prototypes.
      chunk: a divisor of the number of classes in the slice.
      axes: inside a ``shard_map``, the mesh axes along which batch or slice differ.
      similarity: see ``DenseClasses.of``.
    """

    part: ClassSlice
    chunk: int
    axes: tuple[str, ...] = ()
    similarity: Similarity = nearest_cosines

    @property
    def num_classes(self) -> int:
        """C."""
        return self.part.num_classes

    def target_cosine(self) -> Float[Array, " B"]:
        """See ``ClassReducer``; 0 for a target outside the slice."""
        embedding, prototypes, speaker, _, first = self.part
        position = speaker - first
        here = (position >= 0) & (position < len(prototypes))
        # One row per example is gathered, because a masked sum as in DenseClasses would need all cosines.
        own = prototypes[jnp.where(here, position, 0)]
        cosine = jax.vmap(lambda one, sub_centres: self.similarity(one[None], sub_centres[None])[0, 0])(embedding, own)
        return jnp.where(here, cosine, 0)

    def top_negatives(self, k: int) -> TopNegatives:
        """See ``ClassReducer``."""
        num_examples = len(self.part.speaker)
        k = min(k, len(self.part.prototypes))

        def merge(before: TopNegatives, chunk: DenseClasses) -> TopNegatives:
            return merge_chunks(before, chunk.top_negatives(k), k)

        start = start_without_negatives(num_examples, k, self.part.embedding.dtype)
        return self._fold(lax.stop_gradient(self.part), merge, start)

    def log_sum_exp(self, logits: LogitFunction) -> Float[Array, " B"]:
        """See ``ClassReducer``."""

        def add(total: Float[Array, " B"], chunk: DenseClasses) -> Float[Array, " B"]:
            return jnp.logaddexp(total, chunk.log_sum_exp(logits))

        # Finite, because logaddexp of two minus infinities has a NaN gradient in chunks without a negative.
        nothing = jnp.full(len(self.part.speaker), NEVER, self.part.embedding.dtype)
        return self._fold(self.part, add, nothing)

    def sum(self, values: LogitFunction) -> Float[Array, " B"]:
        """See ``ClassReducer``."""

        def add(total: Float[Array, " B"], chunk: DenseClasses) -> Float[Array, " B"]:
            return total + chunk.sum(values)

        return self._fold(self.part, add, jnp.zeros(len(self.part.speaker), self.part.embedding.dtype))

    def _fold(self, part: ClassSlice, combine: Callable[[Carry, DenseClasses], Carry], start: Carry) -> Carry:
        """Folds ``combine`` over the chunks."""

        # Without the checkpoint, scan would keep every chunk's cosines for the gradient: [B,C] again.
        @jax.checkpoint
        def body(carry: tuple[Carry, Array], prototypes: Float[Array, "chunk K E"]) -> tuple[tuple[Carry, Array], None]:
            result, first = carry
            dense = DenseClasses.of(part._replace(prototypes=prototypes, first=first), self.similarity)
            return (combine(result, dense), first + self.chunk), None

        chunks = part.prototypes.reshape(-1, self.chunk, *part.prototypes.shape[1:])
        if self.axes:  # a carry must be declared device-varying from the start, because scan keeps its type
            start = lax.pcast(start, self.axes, to="varying")
        first = jnp.asarray(part.first, jnp.int32)
        return lax.scan(body, (start, first), chunks)[0][0]


def choose_chunk_size(num_classes: int, at_most: int) -> int:
    """Returns the largest divisor of a slice's ``num_classes`` that is not above ``at_most``."""
    return max(size for size in range(1, min(at_most, num_classes) + 1) if num_classes % size == 0)
