"""What a loss does to its speakers, measured along the way where ``loss.diagnostics`` asks for it."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int32, UInt32

from mqmha_jax.losses.margin_softmax import Metrics
from mqmha_jax.losses.pairs.pair_loss import same_speaker
from mqmha_jax.models.head import unit_length

_NORM_QUANTILES = (5, 25, 50, 75, 95)
_NOBODY = -1


class Memory(NamedTuple):
    """What is remembered of each class.

    Attributes:
      confused: its nearest other speakers when it was last met; -1 where it was not met yet.
      wins: how often each of its sub-centres was the nearest to an example of it.
    """

    confused: Int32[Array, "rows k"]
    wins: Int32[Array, "rows K"]


def nothing_yet(num_rows: int, top_k: int, sub_centres: int) -> Memory:
    """The memory before the first step."""
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
      memory: of the steps before.
      prototypes: of all classes.
      embedding, speaker, example: the batch.
      nearest: the ``k`` nearest other speakers of each example.

    Returns:
      Per example: ``confusions_returned``, the share of its nearest speakers that were among those of its speaker at
      the last meeting (of examples whose speaker was met before; scaled so that the mean over the batch is theirs),
      ``dominant_sub_centre``, the share of its speaker's most frequent sub-centre among all wins, 1 / K at least, and
      ``embedding_norm_p5`` to ``p95``, quantiles of the length over the batch, the same for all; and the new memory.
    """
    embedding, prototypes = lax.stop_gradient((embedding, prototypes))
    before = memory.confused[speaker]
    met = before[:, 0] != _NOBODY
    returned = (nearest[:, :, None] == before[:, None, :]).any(axis=2).mean(axis=1)
    share_met = jnp.maximum(met.mean(), 1 / len(speaker))

    cosines = jnp.einsum("be,bke->bk", unit_length(embedding), unit_length(prototypes[speaker]))
    wins = memory.wins.at[speaker, cosines.argmax(axis=1)].add(1)
    dominant = wins[speaker].max(axis=1) / wins[speaker].sum(axis=1)

    norms = jnp.percentile(jnp.linalg.norm(embedding, axis=1), jnp.asarray(_NORM_QUANTILES, embedding.dtype))
    metrics = {
        "confusions_returned": jnp.where(met, returned, 0) / share_met,
        "dominant_sub_centre": dominant,
        **{f"embedding_norm_p{q}": jnp.full(len(speaker), norms[i]) for i, q in enumerate(_NORM_QUANTILES)},
    }
    # Of a speaker's examples the one with the highest number is remembered, in whatever order rows lie.
    last = jnp.where(same_speaker(speaker), example[None, :], 0).max(axis=1) == example
    row = jnp.where(last, speaker, len(memory.confused))
    return metrics, Memory(memory.confused.at[row].set(nearest, mode="drop"), wins)
