"""The layout of the head's classes over devices and memory, which no loss needs to know."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh
from jaxtyping import Float, Int32

from mqmha_jax.losses.chunked_classes import ChunkedClasses, choose_chunk_size
from mqmha_jax.losses.class_reducer import ClassReducer, ClassSlice, DenseClasses, Similarity
from mqmha_jax.losses.sharded_classes import ShardedClasses
from mqmha_jax.models.head import nearest_cosines
from mqmha_jax.parallel import DATA, MODEL

_SMALLEST_MULTIPLE = 256
"""The number of rows is a multiple of this, so it divides by every power of two up to this number of slices."""

_PADDING_SHARE = 64
"""A large head may add up to 1 / 64 of its classes as padding, in order to divide by larger powers of two."""


@dataclasses.dataclass(frozen=True)
class ClassLayout:
    """``C`` classes, padded, cut into slices along the mesh axis ``model`` and each slice into chunks.

    Attributes:
      num_classes: C, the true number.
      mesh: with the axes ``data`` and ``model``; None: everything on one device.
      chunk: maximum number of classes whose cosines are held at once; 0: all of a slice.
      similarity: what takes the place of the cosine between embeddings and prototypes.
    """

    num_classes: int
    mesh: Mesh | None = None
    chunk: int = 0
    similarity: Similarity = nearest_cosines

    @property
    def num_rows(self) -> int:
        """Rows of the prototypes in memory: C rounded up to a multiple that does not depend on the mesh.

        So the state of a run fits every mesh. Rows from C on stay zero: they are never candidates and get no gradient.
        """
        # Of C alone, never of the mesh: a checkpoint then has the same arrays on every number of devices.
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
          prototypes: prototypes of all classes, with the padding rows.
          embedding: embeddings of any length.
          speaker: target classes.
          shared: a tree of scalars, passed on to ``loss``.

        Returns:
          What ``loss`` returned, for the whole batch.
        """
        if self.mesh is None:
            local = self._local(ClassSlice(embedding, prototypes, speaker, self.num_classes))
            return loss(local, _norm(embedding), shared)

        def on_each_device(prototypes: Array, embedding: Array, speaker: Array, shared: Any) -> Any:
            norm = _norm(embedding)
            # The gradient of a device-varying cast is a sum over the devices. Here it happens once; left to JAX, it
            # happens wherever a replicated value meets a varying one, which is once for every chunk.
            prototypes = lax.pcast(prototypes, DATA, to="varying")
            embedding = lax.pcast(embedding, MODEL, to="varying")
            first = lax.axis_index(MODEL) * len(prototypes)
            local = self._local(ClassSlice(embedding, prototypes, speaker, self.num_classes, first))
            return loss(ShardedClasses(local, MODEL), norm, shared)

        # The encoder splits the batch over all devices, but a slice of the classes needs the batch of its whole data
        # row: these in_specs gather it along the model axis.
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
        return ChunkedClasses(part, choose_chunk_size(len(part.prototypes), self.chunk), axes, self.similarity)


def _norm(embedding: Float[Array, "B E"]) -> Float[Array, " B"]:
    """Returns the length, with a finite gradient at zero."""
    return jnp.sqrt(jnp.maximum((embedding * embedding).sum(axis=-1), 1e-24))
