"""Finds the nearest other speakers of each example: in one array, over chunks of classes, and over devices.

The three layouts of the classes agree because each of them sorts by cosine and, on a tie, prefers the lower class.
``lax.top_k`` prefers the earlier column, so it is enough that candidates stay in the order of their classes.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int, Int32

NEVER = -1e30
"""Stands for the cosine or logit of a class that does not count. Finite, because a slice may hold no negative at all,
and the gradient of a log-sum-exp over minus infinities is not a number."""


class TopNegatives(NamedTuple):
    """The ``k`` other speakers with the largest cosine, nearest first; ties go to the lower class. No gradient.

    Attributes:
      cosine: cosines of these speakers.
      speaker: their classes.
      sum_of_all: sum of the cosines of all other speakers, which the search reads anyway.
    """

    cosine: Float[Array, "B k"]
    speaker: Int[Array, "B k"]
    sum_of_all: Float[Array, " B"]

    def contain(self, cosine: Float[Array, "B c"], speaker: Int[Array, " c"]) -> Bool[Array, "B c"]:
        """Tells which classes of a slice are among them.

        Comparing cosines with the last one found needs no scatter and no list of members, so it costs one elementwise
        pass in every layout. The last one itself is recognised by its class, because a cosine that is computed a second
        time may differ in its last digit.

        Args:
          cosine: cosines of a slice of the classes. The caller must ignore the target's own entry.
          speaker: their classes.

        Returns:
          True for exactly ``k`` of the classes other than the target.
        """
        last_cosine, last_speaker = self.cosine[:, -1:], self.speaker[:, -1:]
        tied_before = (cosine == last_cosine) & (speaker[None, :] < last_speaker)
        return (cosine > last_cosine) | tied_before | (speaker[None, :] == last_speaker)


def find_top_negatives(
    cosine: Float[Array, "B c"], is_negative: Bool[Array, "B c"], k: int, first: Int32[Array, ""] | int = 0
) -> TopNegatives:
    """Finds the nearest negatives among classes whose cosines lie in one array.

    Args:
      cosine: cosines of adjacent classes.
      is_negative: False for the example's own speaker and for padding.
      k: how many; all of them where the slice has fewer.
      first: class of the first column.
    """
    cosine = lax.stop_gradient(cosine)
    negatives = jnp.where(is_negative, cosine, NEVER)
    # Without a barrier XLA:CPU merges later slices into the top-k and then sorts all classes, 30 times slower; with
    # one barrier for both results it cannot compile float64.
    nearest, position = map(lax.optimization_barrier, lax.top_k(negatives, min(k, negatives.shape[1])))
    return TopNegatives(nearest, first + position, jnp.where(is_negative, cosine, 0).sum(axis=1))


def start_without_negatives(num_examples: int, k: int, dtype: jnp.dtype) -> TopNegatives:
    """Returns the value from which :func:`merge_chunks` starts: every candidate found later is nearer."""
    return TopNegatives(
        cosine=jnp.full((num_examples, k), NEVER, dtype),
        speaker=jnp.zeros((num_examples, k), jnp.int32),
        sum_of_all=jnp.zeros(num_examples, dtype),
    )


def merge_chunks(before: TopNegatives, chunk: TopNegatives, k: int) -> TopNegatives:
    """Keeps the ``k`` nearest of those found before and those of the next, higher classes."""
    # The earlier classes come first, so that a tie still goes to the lower class.
    cosine, position = lax.top_k(jnp.concatenate([before.cosine, chunk.cosine], axis=1), k)
    speaker = jnp.concatenate([before.speaker, chunk.speaker], axis=1)
    sum_of_all = before.sum_of_all + chunk.sum_of_all
    return TopNegatives(cosine, jnp.take_along_axis(speaker, position, axis=1), sum_of_all)


def merge_shards(local: TopNegatives, k: int, axis: str) -> TopNegatives:
    """Finds the ``k`` nearest of all devices along a mesh axis; called inside ``jax.shard_map``.

    Every true member is among the ``k`` nearest of its own device, so ``k`` candidates per device are enough: a few
    numbers travel per example, never ``[B,C]``. A device may offer fewer than ``k`` if its slice is smaller.
    """
    # The gathered candidates lie in the order of the devices' slices: a tie goes to the lower class.
    candidates = lax.all_gather(local.cosine, axis, axis=1, tiled=True)
    speakers = lax.all_gather(local.speaker, axis, axis=1, tiled=True)
    cosine, position = lax.top_k(candidates, k)
    speaker = jnp.take_along_axis(speakers, position, axis=1)
    # Every device computed the same result, but shard_map cannot know that; a maximum over equal values tells it.
    return TopNegatives(lax.pmax(cosine, axis), lax.pmax(speaker, axis), lax.psum(local.sum_of_all, axis))
