"""A work directory with a tiny random network, and recordings of voices that it can tell apart, in a second."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import soundfile

from mqmha_jax.config import Config, DataConfig, FbankSpec, ModelConfig, part
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.runs.network_run import write_network_run
from mqmha_jax.runs.state import initial_network

RATE_HZ = 16_000
TINY = Config(
    fbank=FbankSpec(num_mel_bins=20),
    data=DataConfig(train="", crop_frames=24),
    model=ModelConfig(
        encoder=part("tdnn", channels=16, final_channels=16, kernel_sizes=[3], dilations=[1]),
        pooling=part("tstp"),
        embedding_dim=8,
    ),
)


def write_tiny_run(workdir: Path, *, seed: int = 0) -> Path:
    """Writes the run of an untrained network, whose training set is not known."""
    network = initial_network(TINY, build_speaker_net(TINY.model), jnp.int32(seed))
    write_network_run(workdir, TINY, {"file": "none"}, network, head={})
    return workdir


def voice(speaker: int, take: int, seconds: float = 0.75) -> np.ndarray:
    """Makes a buzz of a pitch, in syllables: a steady buzz is not speech."""
    rng = np.random.default_rng((speaker, take))
    time = np.arange(round(RATE_HZ * seconds)) / RATE_HZ
    pitch = 100 + 25 * speaker + 2 * take
    buzz = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 12)) * 0.1
    return np.asarray(buzz * (0.55 + 0.45 * np.cos(2 * np.pi * 4 * time)) + 0.01 * rng.normal(size=time.size))


def write_voices(root: Path, *, speakers: int = 4, takes: int = 4) -> dict[str, str]:
    """Writes ``root/sS/T.wav``; returns the speaker of each id."""
    utt2spk = {}
    for speaker in range(speakers):
        (root / f"s{speaker}").mkdir(parents=True, exist_ok=True)
        for take in range(takes):
            name = f"s{speaker}/{take}.wav"
            soundfile.write(root / name, voice(speaker, take), RATE_HZ)
            utt2spk[name] = f"s{speaker}"
    return utt2spk
