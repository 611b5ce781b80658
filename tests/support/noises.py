"""Shards of noises and a file of rooms, so small that a real run takes seconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mqmha_jax.config import AugmentConfig, FbankSpec
from mqmha_jax.data.room_table import write_rooms
from mqmha_jax.data.shard_writer import UtteranceFbank, write_shards
from tests.support.tiny import SPEC

NO_CHANCE = {f"{name}_probability": 0.0 for name in ("noise", "music", "babble", "reverb")}


def write_noises(
    directory: Path, *, kinds: Sequence[str] = ("noise", "music", "speech"), clips: int = 3, spec: FbankSpec = SPEC
) -> Path:
    """Writes some clips of each kind, with 10, 30 and 50 frames in turn; clip i has power 2**-i."""
    rng = np.random.default_rng(0)
    records = []
    for index in range(len(kinds) * clips):
        frames = rng.normal(size=(10 + 20 * (index % 3), spec.num_features))
        kind = kinds[index // clips]
        records.append(
            UtteranceFbank(f"{kind}-{index}", kind, frames.astype(np.float16), measures={"power": 2.0**-index})
        )
    write_shards(directory, records, spec=spec, provenance={})
    return directory


def write_some_rooms(path: Path, *, rooms: int = 4, num_frames: int = 6, spec: FbankSpec = SPEC) -> Path:
    """Writes rooms with bands that decay faster and slower."""
    rng = np.random.default_rng(0)
    decay = -rng.uniform(0.5, 3.0, (rooms, 1, spec.num_features)) * np.arange(num_frames)[None, :, None]
    write_rooms(path, decay, [f"room {index}" for index in range(rooms)], spec)
    return path


def only(**probabilities: float) -> AugmentConfig:
    """Allows only these kinds; four frames of context."""
    return AugmentConfig(**{**NO_CHANCE, "context_frames": 4, **probabilities})  # type: ignore[arg-type]
