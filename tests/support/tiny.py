"""A corpus and an experiment so small that a real run takes seconds."""

from pathlib import Path

import numpy as np

from mqmha_jax.config import (
    Config,
    DataConfig,
    FbankSpec,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    SpecAugmentConfig,
    TrainConfig,
    part,
)
from mqmha_jax.data.shard_writer import UtteranceFbank, write_shards

SPEC = FbankSpec(num_mel_bins=8)


def write_tiny_shards(directory: Path, *, speakers: int, utterances: int = 6, first: int = 0, seed: int = 0) -> Path:
    """Writes frames; speakers differ in how their spectrum moves."""
    rng = np.random.default_rng(seed)
    records = []
    for speaker in range(first, first + speakers):
        voice = np.random.default_rng(speaker).normal(size=(8, 8))
        for utterance in range(utterances):
            frames = rng.normal(size=(int(rng.integers(20, 60)), 8)) @ voice
            records.append(UtteranceFbank(f"s{speaker}/u{utterance}", f"s{speaker}", frames.astype(np.float16)))
    write_shards(directory, records, spec=SPEC, provenance={"corpus": "tiny"})
    return directory


def write_tiny_trials(path: Path, *, speakers: int, utterances: int = 6, first: int = 0) -> Path:
    names = [(s, f"s{s}/u{u}") for s in range(first, first + speakers) for u in range(utterances)]
    lines = [f"{int(a[0] == b[0])} {a[1]} {b[1]}\n" for i, a in enumerate(names) for b in names[i + 1 :]]
    path.write_text("".join(lines))
    return path


def tiny_corpus(directory: Path) -> dict[str, str]:
    """Writes training shards of 8 speakers, dev shards of 4 others and a list; returns options of ``DataConfig``."""
    write_tiny_shards(directory / "train", speakers=8)
    write_tiny_shards(directory / "dev", speakers=4, first=8, seed=1)
    write_tiny_trials(directory / "dev.trials", speakers=4, first=8)
    return {
        "train": str(directory / "train"),
        "dev": str(directory / "dev"),
        "dev_trials": str(directory / "dev.trials"),
    }


def tiny_config(data: dict[str, str], **train: int) -> Config:
    return Config(
        fbank=SPEC,
        data=DataConfig(crop_frames=24, batch_size=8, **data),
        spec_augment=SpecAugmentConfig(num_time_masks=1, max_time_mask_frames=4),
        model=ModelConfig(
            encoder=part("tdnn", channels=16, final_channels=16, kernel_sizes=[3, 1], dilations=[1, 1]),
            pooling=part("mqmha", heads=2, queries=2),
            embedding_dim=6,
            normalize_pooled=True,
        ),
        loss=LossConfig(name="am", scale=10.0, sub_centres=2, top_k=2, margin_end=0.5),
        optimizer=OptimizerConfig(name="adamw", learning_rate=0.02, final_learning_rate=1e-3, warmup=0.1),
        train=TrainConfig(**{"steps": 12, "log_every": 1, "evaluate_every": 6, "checkpoint_every": 4, **train}),
    )
