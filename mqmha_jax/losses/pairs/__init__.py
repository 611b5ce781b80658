"""Losses over the pairs of a batch; each is one file and one line here."""

from collections.abc import Callable

from mqmha_jax.losses.pairs.angular_prototypical import angular_prototypical
from mqmha_jax.losses.pairs.ge2e import ge2e
from mqmha_jax.losses.pairs.pair_loss import Batch, PairLoss
from mqmha_jax.losses.pairs.supervised_contrastive import supervised_contrastive

PAIRS: dict[str, Callable[..., PairLoss]] = {
    "ge2e": ge2e,
    "angular_prototypical": angular_prototypical,
    "supervised_contrastive": supervised_contrastive,
}
