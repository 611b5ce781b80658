"""Supervised contrastive loss (Khosla et al., arXiv 2004.11362)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from mqmha_jax.losses.pairs.pair_loss import Batch, PairLoss, same_speaker, weight_queries
from mqmha_jax.models.full_precision import sum_products
from mqmha_jax.models.head import unit_length


def supervised_contrastive(temperature: float = 0.1) -> PairLoss:
    """Tells an utterance's own speaker's utterances from all others of the batch (eq. 2, "out").

    Args:
      temperature: tau, which divides the cosines; .1 in the paper.
    """

    def apply(params: Mapping[str, Array], batch: Batch) -> Float[Array, " B"]:
        unit = unit_length(batch.embedding)
        others = ~jnp.eye(len(unit), dtype=bool)
        positives = same_speaker(batch.speaker) & others
        logits = sum_products("be,ce->bc", unit, unit) / temperature
        log_share = logits - jax.nn.logsumexp(logits, axis=1, where=others, keepdims=True)
        count = jnp.maximum(positives.sum(axis=1), 1)
        loss = -jnp.where(positives, log_share, 0).sum(axis=1) / count
        return weight_queries(loss, positives.any(axis=1))

    return PairLoss(apply)
