"""What a loss over pairs of a batch is, and what such losses share."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int32, UInt32

from mqmha_jax.models.head import unit_length


class Batch(NamedTuple):
    """The embeddings of a batch, and whose they are.

    Attributes:
      embedding: of any length.
      speaker: classes.
      example: number of each example; tells which utterance of a speaker is a query where only one is.
    """

    embedding: Float[Array, "B E"]
    speaker: Int32[Array, " B"]
    example: UInt32[Array, " B"]


class PairLoss(NamedTuple):
    """A loss that compares the utterances of a batch with each other and needs no prototypes.

    Attributes:
      apply: ``(params, Batch) -> loss [B]``; an example without another utterance of its speaker has loss 0.
      init_params: learned scalars at the start.
    """

    apply: Callable[[Mapping[str, Array], Batch], Float[Array, " B"]]
    init_params: Mapping[str, float] = {}


def same_speaker(speaker: Int32[Array, " B"]) -> Bool[Array, "B B"]:
    """True where two rows are of one speaker; a row is of its own."""
    return speaker[:, None] == speaker[None, :]


def centroids(embedding: Float[Array, "B E"], members: Bool[Array, "B B"]) -> Float[Array, "B E"]:
    """Mean of the unit-length embeddings of each row's ``members``; zero where there are none."""
    weights = members.astype(embedding.dtype)
    count = jnp.maximum(weights.sum(axis=1), 1)
    return weights @ unit_length(embedding) / count[:, None]


def over_queries(loss: Float[Array, " B"], is_query: Bool[Array, " B"]) -> Float[Array, " B"]:
    """The loss of queries, weighed so that the mean over the batch is the mean over the queries."""
    share = len(loss) / jnp.maximum(is_query.sum(), 1)
    return jnp.where(is_query, loss, 0) * share
