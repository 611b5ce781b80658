"""The class reducer over a mesh: every device reduces its slice of the classes, then the results are combined."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from mqmha_jax.losses.class_reducer import ClassReducer, LogitFunction
from mqmha_jax.losses.top_negatives import TopNegatives, merge_shards


class ShardedClasses(NamedTuple):
    """Classes in slices along a mesh axis, in order; used inside ``jax.shard_map``.

    A few numbers travel per example: one for the target, ``k`` candidates and their classes from each slice, two for
    the log-sum-exp. ``[B,C]`` never travels.

    Attributes:
      local: this device's slice.
      axis: name of the mesh axis.
    """

    local: ClassReducer
    axis: str

    @property
    def num_classes(self) -> int:
        """C."""
        return self.local.num_classes

    def target_cosine(self) -> Float[Array, " B"]:
        """See ``ClassReducer``; one slice holds the target, all others add zero."""
        return lax.psum(self.local.target_cosine(), self.axis)

    def top_negatives(self, k: int) -> TopNegatives:
        """See ``ClassReducer``."""
        return merge_shards(self.local.top_negatives(k), k, self.axis)

    def log_sum_exp(self, logits: LogitFunction) -> Float[Array, " B"]:
        """See ``ClassReducer``."""
        local = self.local.log_sum_exp(logits)
        # The largest term is taken out before the sum, so that no exp overflows. It cancels, so it needs no gradient,
        # and pmax has none.
        largest = lax.pmax(lax.stop_gradient(local), self.axis)
        return largest + jnp.log(lax.psum(jnp.exp(local - largest), self.axis))

    def sum(self, values: LogitFunction) -> Float[Array, " B"]:
        """See ``ClassReducer``."""
        return lax.psum(self.local.sum(values), self.axis)
