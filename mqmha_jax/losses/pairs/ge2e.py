"""Generalised end-to-end loss (Wan et al., arXiv 1710.10467)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from mqmha_jax.losses.pairs.pair_loss import Batch, PairLoss, average_members, same_speaker, weight_queries
from mqmha_jax.models.full_precision import sum_products
from mqmha_jax.models.head import unit_length


def ge2e(scale: float = 10.0, offset: float = -5.0) -> PairLoss:
    """Takes the softmax of ``w cos(e, c_k) + b`` over the speakers of the batch (eq. 5 and 6).

    Centroid c_k is the mean over all utterances of speaker k; an example's own centroid leaves the example out (eq. 8).

    Args:
      scale, offset: initial w and b (10 and -5 in the paper), then learned; w stays positive.
    """

    def apply(params: Mapping[str, Array], batch: Batch) -> Float[Array, " B"]:
        same = same_speaker(batch.speaker)
        others = same & ~jnp.eye(len(same), dtype=bool)
        unit = unit_length(batch.embedding)
        cosine = sum_products("be,ce->bc", unit, unit_length(average_members(batch.embedding, same)))
        own = (unit * unit_length(average_members(batch.embedding, others))).sum(axis=1)
        logits = jnp.maximum(params["scale"], 1e-6) * jnp.where(same, own[:, None], cosine) + params["offset"]
        # A speaker with n utterances has n equal columns: minus log n each, they count as one.
        columns = logits - jnp.log(same.sum(axis=0).astype(logits.dtype))[None, :]
        target = jnp.diagonal(logits)
        return weight_queries(jax.nn.logsumexp(columns, axis=1) - target, others.any(axis=1))

    return PairLoss(apply, {"scale": scale, "offset": offset})
