"""Poolings: ``(frames [B,t,D], mask [B,t]) -> [B,S]``, by name. The fields of each class are its options."""

from collections.abc import Callable

from flax import linen as nn

from mqmha_jax.models.pooling.mqmha import MQMHA
from mqmha_jax.models.pooling.statistics import TAP, TSTP

POOLINGS: dict[str, Callable[..., nn.Module]] = {
    "tap": TAP,
    "tstp": TSTP,
    "mqmha": MQMHA,
}
