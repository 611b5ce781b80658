"""The type of a loss over the pairs of a batch, and what such losses share."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int32, UInt32

from mqmha_jax.models.full_precision import sum_products
from mqmha_jax.models.head import unit_length


class Batch(NamedTuple):
    """The embeddings of a batch and their speakers.

    Attributes:
      embedding: embeddings of any length.
      speaker: their classes.
      example: number of each example in the run; decides which utterance of a speaker is the query.
    """

    embedding: Float[Array, "B E"]
    speaker: Int32[Array, " B"]
    example: UInt32[Array, " B"]


class PairLoss(NamedTuple):
    """A loss that compares the utterances of a batch with each other and needs no prototypes.

    Attributes:
      apply: ``(params, Batch) -> loss [B]``; an example without another utterance of its speaker has loss 0.
      init_params: initial values of learned scalars.
    """

    apply: Callable[[Mapping[str, Array], Batch], Float[Array, " B"]]
    init_params: Mapping[str, float] = {}


def same_speaker(speaker: Int32[Array, " B"]) -> Bool[Array, "B B"]:
    """Tells which pairs of rows have the same speaker; the diagonal is True."""
    return speaker[:, None] == speaker[None, :]


def is_latest(speaker: Int32[Array, " B"], example: UInt32[Array, " B"]) -> Bool[Array, " B"]:
    """Tells which rows have the highest example number of their speaker; the order of the rows does not matter."""
    return jnp.where(same_speaker(speaker), example[None, :], 0).max(axis=1) == example


def average_members(embedding: Float[Array, "B E"], members: Bool[Array, "B B"]) -> Float[Array, "B E"]:
    """Returns the mean of the unit-length embeddings of each row's ``members``; zero for a row without members."""
    weights = members.astype(embedding.dtype)
    count = jnp.maximum(weights.sum(axis=1), 1)
    return sum_products("bm,me->be", weights, unit_length(embedding)) / count[:, None]


def weight_queries(loss: Float[Array, " B"], is_query: Bool[Array, " B"]) -> Float[Array, " B"]:
    """Drops the loss of other rows and scales that of the queries: the mean over the batch becomes theirs."""
    share = len(loss) / jnp.maximum(is_query.sum(), 1)
    return jnp.where(is_query, loss, 0) * share
