"""Angular prototypical loss (Chung et al., In defence of metric learning, arXiv 2003.11982)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from mqmha_jax.losses.pairs.pair_loss import Batch, PairLoss, average_members, is_latest, same_speaker, weight_queries
from mqmha_jax.models.full_precision import sum_products
from mqmha_jax.models.head import unit_length


def angular_prototypical(scale: float = 10.0, offset: float = -5.0) -> PairLoss:
    """Compares one query per speaker with the centroids of all speakers' other utterances (eq. 7 and 8).

    The query is the speaker's utterance with the highest example number. A speaker with one utterance in the batch does
    not count.

    Args:
      scale, offset: initial w and b (10 and -5 in the paper), then learned; w stays positive.
    """

    def apply(params: Mapping[str, Array], batch: Batch) -> Float[Array, " B"]:
        same = same_speaker(batch.speaker)
        is_last = is_latest(batch.speaker, batch.example)
        is_query = is_last & (same.sum(axis=1) > 1)
        support = unit_length(average_members(batch.embedding, same & ~is_last[None, :]))
        cosine = sum_products("be,ce->bc", unit_length(batch.embedding), support)
        logits = jnp.maximum(params["scale"], 1e-6) * cosine + params["offset"]
        # Every row has a centroid, but each speaker may count once: its centroid is the column of its query.
        others = jnp.where(is_query[None, :], logits, -jnp.inf)
        loss = jax.nn.logsumexp(others, axis=1, where=is_query[None, :]) - jnp.diagonal(logits)
        return weight_queries(jnp.where(is_query, loss, 0), is_query)

    return PairLoss(apply, {"scale": scale, "offset": offset})
