"""The utterances whose embeddings give a speaker's first prototype, and their mean direction."""

from pathlib import Path

import numpy as np
import pytest
from flax import linen as nn

from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_file import UtteranceFbank
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.shard_writer import write_shards
from mqmha_jax.evaluation.embeddings.embed import Embedder
from mqmha_jax.evaluation.embeddings.selection import Selection
from mqmha_jax.train import speaker_means as module
from mqmha_jax.types import Embeddings

COUNTS = (1, 10, 37, 4, 23)
"""Utterances of each speaker."""


def test_each_speaker_gives_ten_utterances_that_are_read_in_the_order_of_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    speakers = rng.permutation(np.repeat(np.arange(len(COUNTS)), COUNTS))
    frames = np.zeros((5, 4), np.float16)
    rows = [UtteranceFbank(f"u{i:03}", f"s{speaker}", frames) for i, speaker in enumerate(speakers)]
    write_shards(tmp_path / "train", rows, spec=FbankSpec(num_mel_bins=4), provenance={})
    vectors = {row.utterance: rng.normal(size=3).astype(np.float32) for row in rows}
    read: list[str] = []

    def embed(_: Embedder, selection: Selection, *, progress: bool) -> Embeddings:
        read.extend(selection.utterances)
        return Embeddings(selection.utterances, np.stack([vectors[name] for name in selection.utterances]))

    monkeypatch.setattr(module, "embed", embed)
    shards = open_shards(tmp_path / "train")
    means = module.speaker_means(nn.Dense(1), {}, shards, None)

    expected: list[str] = []
    for number, count in enumerate(COUNTS):
        own = [shards.utterance(int(row)) for row in np.flatnonzero(shards.speaker == number)]
        assert len(own) == count
        chosen = own if count <= 10 else [own[round(place)] for place in np.linspace(0, count - 1, 10)]
        direction = sum(vectors[name] / np.linalg.norm(vectors[name]) for name in chosen)
        np.testing.assert_allclose(means[number], direction / np.linalg.norm(direction), atol=1e-6)
        expected += chosen
    place = {shards.utterance(row): row for row in range(len(shards))}
    assert read == sorted(expected, key=place.__getitem__)
