"""Checks that padding has no effect: the rule that an encoder or a pooling of the user's own breaks most easily."""

from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from mqmha_jax.config import ModelConfig
from mqmha_jax.errors import UserError
from mqmha_jax.models.speaker_net import SpeakerNet
from mqmha_jax.own_code.names import code_names
from mqmha_jax.own_code.returns import name_function

_LOUD = 10.0  # of padding, beside frames around 1: what leaks in is far above rounding
# Relative to the largest value. A deep encoder in bfloat16 rounds by a few hundredths, differently for each length; a
# quarter of padding changes what takes it in by a quarter or more.
_TOLERANCE = 0.1


def check_padding(net: SpeakerNet, config: ModelConfig, num_frames: int, num_features: int) -> None:
    """Computes a random utterance alone and with padding, by each part of the user's own.

    Args:
      net: the network.
      config: of the network; it says which parts are the user's own.
      num_frames: of an utterance with its padding.
      num_features: values per frame, F.

    Raises:
      UserError: padding changes the values at real frames, or the pooled vector.
    """
    fbank = _draw_frames(num_frames, num_features)
    if _is_own(config.encoder.name):
        _require_same(net.encoder, "encoder", fbank)
    if _is_own(config.pooling.name):
        frames = jax.eval_shape(partial(_encode, net.encoder), fbank, np.ones(fbank.shape[:2], bool))
        _require_same(net.pooling, "pooling", _draw_frames(*frames.shape[1:]))


def _is_own(name: str) -> bool:
    return bool(code_names({"name": name}))


def _draw_frames(num_frames: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, num_frames, width)).astype(np.float32)


def _encode(encoder: nn.Module, fbank: jax.Array, mask: jax.Array) -> jax.Array:
    return encoder.init_with_output(jax.random.key(0), fbank, mask, train=False)[0][0]


def _require_same(module: nn.Module, role: str, frames: np.ndarray) -> None:
    num_real = max(1, 3 * frames.shape[1] // 4)
    mask = np.arange(frames.shape[1])[None] < num_real
    variables = jax.jit(partial(module.init, train=False))(jax.random.key(0), frames, mask)
    apply = jax.jit(partial(module.apply, train=False))
    alone = _real_values(apply(variables, frames[:, :num_real], mask[:, :num_real]))
    padded = _real_values(apply(variables, np.where(mask[..., None], frames, _LOUD * frames), mask))
    if alone.shape == padded.shape and np.abs(alone - padded).max(initial=0) <= _TOLERANCE * np.abs(alone).max(
        initial=0
    ):
        return
    raise UserError(
        f"The {role} {name_function(module)} returns other values for an utterance if padding follows it, so an "
        "embedding would depend on the other utterances of its batch. Leave the frames outside the mask out of every "
        "sum, mean, maximum and convolution; docs/extend.md has an example."
    )


def _real_values(result: Any) -> np.ndarray:
    """The vectors of a pooling, or the real frames of an encoder."""
    if isinstance(result, tuple):
        frames, mask = result
        return np.asarray(frames, np.float32)[np.asarray(mask)]
    return np.asarray(result, np.float32)
