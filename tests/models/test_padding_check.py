"""An encoder or a pooling of the user's own for which padding matters is refused; a right one is not."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.errors import UserError
from mqmha_jax.models import SpeakerNet, build_speaker_net
from mqmha_jax.models.padding_check import check_padding

FRAMES, FEATURES = 12, 3
MODEL = ModelConfig(
    encoder=part("tdnn", channels=4, final_channels=4, kernel_sizes=[3], dilations=[1]),
    pooling=part("tap"),
    embedding_dim=2,
)


class OwnPooling(nn.Module):
    pool: Callable[[jax.Array, jax.Array], Any]

    @nn.compact
    def __call__(self, frames, mask, *, train=False):
        return self.pool(frames, mask[..., None])


class OwnEncoder(nn.Module):
    masked: bool

    @nn.compact
    def __call__(self, fbank, mask, *, train):
        return nn.Conv(4, (3,))(jnp.where(mask[..., None], fbank, 0) if self.masked else fbank), mask


def check(role: str, module: nn.Module) -> None:
    net: SpeakerNet = build_speaker_net(MODEL).clone(**{role: module})
    own = dataclasses.replace(MODEL, **{role: part("own.py:Own")})
    check_padding(net, own, FRAMES, FEATURES)


@pytest.mark.parametrize(
    "pool",
    [
        lambda frames, valid: frames.mean(axis=1),
        lambda frames, valid: jnp.where(valid, frames, 0).mean(axis=1),  # divides by the length with padding
        lambda frames, valid: jnp.where(valid, frames, 0).max(axis=1) + frames[:, -1],
    ],
)
def test_a_pooling_that_forgets_the_mask_is_refused(pool) -> None:
    with pytest.raises(UserError, match=r"The pooling OwnPooling \(.*, line \d+\) returns other values .* padding"):
        check("pooling", OwnPooling(pool))


def test_an_encoder_that_forgets_the_mask_is_refused() -> None:
    with pytest.raises(UserError, match=r"The encoder OwnEncoder \(.*, line \d+\) returns other values .* padding"):
        check("encoder", OwnEncoder(masked=False))


def test_parts_that_use_the_mask_pass() -> None:
    check("pooling", OwnPooling(lambda frames, valid: jnp.where(valid, frames, 0).sum(axis=1) / valid.sum(axis=1)))
    check("encoder", OwnEncoder(masked=True))
    check_padding(build_speaker_net(MODEL), MODEL, FRAMES, FEATURES)
