"""How the classes of the head lie over devices and memory; no loss needs to know."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh
from jaxtyping import Float, Int32

from mqmha_jax.losses.chunked_classes import ChunkedClasses, chunk_size
from mqmha_jax.losses.class_reducer import ClassReducer, ClassSlice, DenseClasses, Similarity
from mqmha_jax.losses.sharded_classes import ShardedClasses
from mqmha_jax.models.head import nearest_cosines
from mqmha_jax.parallel import DATA, MODEL

_SMALLEST_MULTIPLE = 256
"""Padding is so fine at the least: it divides by every power of two of slices up to this many."""

_PADDING_SHARE = 64
"""Padding stays below this part of the classes, so that a large head divides by larger powers of two."""


@dataclasses.dataclass(frozen=True)
class ClassLayout:
    """``C`` classes, padded, cut into slices along the mesh axis ``model`` and each slice into chunks.

    Attributes:
      num_classes: C, the true number.
      mesh: with the axes ``data`` and ``model``; None: everything on one device.
      chunk: hold the cosines of at most so many classes at once; 0: of all of a slice.
      similarity: what stands for the cosine of embeddings and prototypes.
    """

    num_classes: int
    mesh: Mesh | None = None
    chunk: int = 0
    similarity: Similarity = nearest_cosines

    @property
    def num_rows(self) -> int:
        """Rows of the prototypes in memory: C rounded up to a multiple that no mesh has a say in.

        So a checkpoint fits every mesh. The rows from C on stay zero: they are never candidates and get no gradient.
        """
        largest_power = 1 << (self.num_classes // _PADDING_SHARE).bit_length() >> 1
        multiple = max(_SMALLEST_MULTIPLE, largest_power)
        return -(-self.num_classes // multiple) * multiple

    def reduce(
        self,
        loss: Callable[..., Any],
        prototypes: Float[Array, "rows K E"],
        embedding: Float[Array, "B E"],
        speaker: Int32[Array, " B"],
        shared: Any,
    ) -> Any:
        """Calls ``loss(classes, norm, shared)`` with the reducer of this layout.

        Args:
          loss: ``(ClassReducer, length of the embeddings [B], shared) -> tree of arrays [B]``.
          prototypes: of all classes, with the padding rows.
          embedding: of any length.
          speaker: the target classes.
          shared: a tree of scalars that is passed on.

        Returns:
          What ``loss`` returned, for the whole batch.
        """
        if self.mesh is None:
            local = self._local(ClassSlice(embedding, prototypes, speaker, self.num_classes))
            return loss(local, _norm(embedding), shared)

        def on_each_device(prototypes: Array, embedding: Array, speaker: Array, shared: Any) -> Any:
            norm = _norm(embedding)
            # Said once here, a gradient is summed over the devices once, and not once for every chunk.
            prototypes = lax.pcast(prototypes, DATA, to="varying")
            embedding = lax.pcast(embedding, MODEL, to="varying")
            first = lax.axis_index(MODEL) * len(prototypes)
            local = self._local(ClassSlice(embedding, prototypes, speaker, self.num_classes, first))
            return loss(ShardedClasses(local, MODEL), norm, shared)

        # The batch comes in over all devices, which share the encoder's work; along the model axis it is gathered here.
        batch, everywhere = jax.P(DATA), jax.P()
        return jax.shard_map(
            on_each_device,
            mesh=self.mesh,
            in_specs=(jax.P(MODEL), batch, batch, everywhere),
            out_specs=batch,
        )(prototypes, embedding, speaker, shared)

    def _local(self, part: ClassSlice) -> ClassReducer:
        if not self.chunk:
            return DenseClasses.of(part, self.similarity)
        axes = () if self.mesh is None else (DATA, MODEL)
        return ChunkedClasses(part, chunk_size(len(part.prototypes), self.chunk), axes, self.similarity)


def _norm(embedding: Float[Array, "B E"]) -> Float[Array, " B"]:
    """Length, with a finite gradient at zero."""
    return jnp.sqrt(jnp.maximum((embedding * embedding).sum(axis=-1), 1e-24))
