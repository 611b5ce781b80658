"""Sounds that count as speech, and a network so small that it embeds them at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mqmha_jax.config import Config, FbankSpec, ModelConfig, part
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.models.speaker_net import build_speaker_net

RATE_HZ = 16_000
CONFIG = Config(
    fbank=FbankSpec(num_mel_bins=20),
    model=ModelConfig(
        encoder=part("tdnn", channels=8, final_channels=8, kernel_sizes=[3, 1], dilations=[1, 1]),
        pooling=part("tstp"),
        embedding_dim=6,
    ),
)


def voice(seconds: float, pitch_hz: int, seed: int = 0) -> np.ndarray:
    """A pulse train that swells and fades with a little noise: enough to tell pitches apart, and speech by measure."""
    num_samples = int(seconds * RATE_HZ)
    pulses = (np.arange(num_samples) % (RATE_HZ // pitch_hz) == 0) * 0.5
    pulses *= 0.55 + 0.45 * np.cos(2 * np.pi * 4 * np.arange(num_samples) / RATE_HZ)
    return (pulses + 0.01 * np.random.default_rng(seed).normal(size=num_samples)).astype(np.float32)


@functools.cache
def make_variables(seed: int = 0) -> dict:
    """Random parameters of the network of ``CONFIG``."""
    net = build_speaker_net(CONFIG.model)
    return net.init(jax.random.key(seed), jnp.zeros((1, 8, 20)), jnp.ones((1, 8), bool), train=False)


def make_encoder(seed: int = 0, **options: object) -> SpeakerEncoder:
    return SpeakerEncoder(CONFIG, make_variables(seed), **options)
