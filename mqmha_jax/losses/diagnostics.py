"""Measures what a loss does to its speakers during training; ``loss.diagnostics`` switches it on."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int32, UInt32

from mqmha_jax.losses.margin_softmax import Metrics
from mqmha_jax.losses.pairs.pair_loss import is_latest
from mqmha_jax.models.full_precision import sum_products
from mqmha_jax.models.head import unit_length

_NORM_QUANTILES = (5, 25, 50, 75, 95)
_NOBODY = -1


class Memory(NamedTuple):
    """What the diagnostics remember of each class.

    Attributes:
      confused: the nearest other speakers of its latest example; -1 before its first example.
      wins: how often each of its sub-centres was the nearest to one of its examples.
    """

    confused: Int32[Array, "rows k"]
    wins: Int32[Array, "rows K"]


def initialize_memory(num_rows: int, top_k: int, sub_centres: int) -> Memory:
    """Returns the memory before the first step."""
    return Memory(jnp.full((num_rows, top_k), _NOBODY, jnp.int32), jnp.zeros((num_rows, sub_centres), jnp.int32))


def diagnose(
    memory: Memory,
    prototypes: Float[Array, "rows K E"],
    embedding: Float[Array, "B E"],
    speaker: Int32[Array, " B"],
    example: UInt32[Array, " B"],
    nearest: Int32[Array, "B k"],
) -> tuple[Metrics, Memory]:
    """Measures a batch and remembers it.

    Args:
      memory: memory of the steps before.
      prototypes: prototypes of all classes.
      embedding, speaker, example: the batch.
      nearest: the ``k`` nearest other speakers of each example.

    Returns:
      The new memory, and per example:

      - ``confusions_returned``: the share of its nearest speakers that were also near to its speaker's previous
        example. Examples whose speaker has no previous one count 0, and the rest is scaled up, so that the mean over
        the batch is the mean over the others.
      - ``dominant_sub_centre``: the share of its speaker's most frequent sub-centre among all wins, at least 1 / K.
      - ``embedding_norm_p5`` to ``p95``: quantiles of the length over the batch, the same for all examples.
    """
    embedding, prototypes = lax.stop_gradient((embedding, prototypes))
    before = memory.confused[speaker]
    met = before[:, 0] != _NOBODY
    returned = (nearest[:, :, None] == before[:, None, :]).any(axis=2).mean(axis=1)
    share_met = jnp.maximum(met.mean(), 1 / len(speaker))

    cosines = sum_products("be,bke->bk", unit_length(embedding), unit_length(prototypes[speaker]))
    wins = memory.wins.at[speaker, cosines.argmax(axis=1)].add(1)
    dominant = wins[speaker].max(axis=1) / wins[speaker].sum(axis=1)

    norms = jnp.percentile(jnp.linalg.norm(embedding, axis=1), jnp.asarray(_NORM_QUANTILES, embedding.dtype))
    metrics = {
        "confusions_returned": jnp.where(met, returned, 0) / share_met,
        "dominant_sub_centre": dominant,
        **{f"embedding_norm_p{q}": jnp.full(len(speaker), norms[i]) for i, q in enumerate(_NORM_QUANTILES)},
    }
    # A speaker may have several examples in a batch, and a scatter to one row keeps an arbitrary one. The example with
    # the highest number is kept, so that the order of the rows, which depends on the number of hosts, does not matter.
    row = jnp.where(is_latest(speaker, example), speaker, len(memory.confused))
    return metrics, Memory(memory.confused.at[row].set(nearest, mode="drop"), wins)
