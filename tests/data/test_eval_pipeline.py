"""Extraction batches hold every utterance once, whole, in a bounded number of shapes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from mqmha_jax.config import FbankSpec
from mqmha_jax.data.eval_pipeline import EvalBatch, eval_batches
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.shard_writer import UtteranceFbank, write_shards


class Frames(NamedTuple):
    """A source in memory; frame t of utterance i is ``(i, t)``."""

    lengths: tuple[int, ...]

    @property
    def num_frames(self) -> np.ndarray:
        return np.array(self.lengths, np.int32)

    def fbank(self, index: int) -> np.ndarray:
        length = self.lengths[index]
        return np.stack([np.full(length, index), np.arange(length)], axis=1).astype(np.float16)


@pytest.fixture(scope="module")
def source() -> Frames:
    rng = np.random.default_rng(0)
    return Frames((1, 100, 101, 1500, *(int(length) for length in rng.lognormal(5.6, 0.5, 60))))


@pytest.fixture(scope="module")
def batches(source: Frames) -> list[EvalBatch]:
    return list(eval_batches(source, frames_per_batch=2000))


def rows(batches: list[EvalBatch]) -> dict[int, np.ndarray]:
    """Collects the valid frames of each utterance."""
    found = [
        (int(index), fbank[:length])
        for batch in batches
        for fbank, length, index in zip(batch.fbank, batch.num_frames, batch.index, strict=True)
        if index >= 0
    ]
    assert len(found) == len(dict(found))
    return dict(found)


def test_batches_hold_every_utterance_once_and_whole(source: Frames, batches: list[EvalBatch]) -> None:
    found = rows(batches)
    assert sorted(found) == list(range(len(source.lengths)))
    for index, frames in found.items():
        np.testing.assert_array_equal(frames, source.fbank(index).astype(np.float32))


def test_padding_is_zero(batches: list[EvalBatch]) -> None:
    for batch in batches:
        for fbank, length in zip(batch.fbank, batch.num_frames, strict=True):
            assert not fbank[length:].any()


def test_filler_rows_are_marked_copies_of_the_first_row() -> None:
    (batch,) = eval_batches(Frames((200, 190, 195)), batch_multiple=4)
    assert batch.index.tolist() == [1, 2, 0, -1]
    assert batch.num_frames.tolist() == [190, 195, 200, 190]
    np.testing.assert_array_equal(batch.fbank[3], batch.fbank[0])


def test_a_very_long_utterance_is_cut_to_its_middle() -> None:
    (batch,) = eval_batches(Frames((1000,)), max_frames=300)
    np.testing.assert_array_equal(batch.fbank[0, :, 1], np.arange(350, 650))
    assert batch.num_frames[0] == 300


def test_shards_are_a_source(source: Frames, tmp_path: Path) -> None:
    utterances = [UtteranceFbank(str(i), "speaker", source.fbank(i)) for i in range(10)]
    write_shards(tmp_path / "shards", utterances, spec=FbankSpec(num_mel_bins=2), provenance={})
    found = rows(list(eval_batches(open_shards(tmp_path / "shards"))))
    for index in range(10):
        np.testing.assert_array_equal(found[index], source.fbank(index))


def test_hosts_take_equally_many_steps_of_equal_shapes(source: Frames) -> None:
    options = {"frames_per_batch": 2000, "batch_multiple": 4}
    alone = list(eval_batches(source, **options))
    shares = [list(eval_batches(source, num_hosts=2, host=host, **options)) for host in (0, 1)]
    assert len(alone) == len(shares[0]) == len(shares[1]) > 4
    for whole, *parts in zip(alone, *shares, strict=True):
        for name in EvalBatch._fields:
            one, other = (getattr(part, name) for part in parts)
            assert one.shape == other.shape
            np.testing.assert_array_equal(
                np.stack([one, other], axis=1).reshape(getattr(whole, name).shape), getattr(whole, name)
            )


def test_no_utterances_give_no_batches() -> None:
    assert list(eval_batches(Frames(()))) == []
