"""A network of a few parameters with a threshold and a calibration, and voices that it tells apart by their pitch."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import soundfile

from mqmha_jax.config import Config, FbankSpec, ModelConfig, part
from mqmha_jax.evaluation.scoring.calibration import Calibration
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


def make_encoder() -> SpeakerEncoder:
    """Makes an untrained network that calls scores near 1 the same speaker."""
    net = build_speaker_net(CONFIG.model)
    variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 20)), jnp.ones((1, 8), bool), train=False)
    calibration = Calibration(("score",), (200.0,), -195.0, 0.5)
    return SpeakerEncoder(CONFIG, variables, threshold=0.975, calibration=calibration, name="tiny")


def make_voice(seconds: float, pitch_hz: int, seed: int = 0) -> np.ndarray:
    """A pulse train that swells and fades, with a little noise; speech by measure."""
    num_samples = int(seconds * RATE_HZ)
    pulses = (np.arange(num_samples) % (RATE_HZ // pitch_hz) == 0) * 0.5
    pulses *= 0.55 + 0.45 * np.cos(2 * np.pi * 4 * np.arange(num_samples) / RATE_HZ)
    return (pulses + 0.01 * np.random.default_rng(seed).normal(size=num_samples)).astype(np.float32)


def to_wav(samples: np.ndarray, rate_hz: int = RATE_HZ, **options: str) -> bytes:
    """Encodes samples ``[n]`` or ``[n, channels]`` as a file in memory."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, **({"format": "WAV", "subtype": "FLOAT"} | options))
    return file.getvalue()
