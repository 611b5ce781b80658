"""Extraction batches hold every utterance once, whole, in a bounded number of shapes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from mqmha_jax.config import FbankSpec
from mqmha_jax.data.eval_pipeline import EvalBatch, eval_batches, length_buckets, plan_batches
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.shard_writer import UtteranceFbank, write_shards
from mqmha_jax.errors import UserError


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
    """The valid frames of each utterance."""
    found = [
        (int(index), fbank[:length])
        for batch in batches
        for fbank, length, index in zip(batch.fbank, batch.num_frames, batch.index, strict=True)
        if index >= 0
    ]
    assert len(found) == len(dict(found))
    return dict(found)


def test_every_utterance_is_there_once_and_whole(source: Frames, batches: list[EvalBatch]) -> None:
    found = rows(batches)
    assert sorted(found) == list(range(len(source.lengths)))
    for index, frames in found.items():
        np.testing.assert_array_equal(frames, source.fbank(index).astype(np.float32))


def test_padding_is_zero(batches: list[EvalBatch]) -> None:
    for batch in batches:
        for fbank, length in zip(batch.fbank, batch.num_frames, strict=True):
            assert not fbank[length:].any()


def test_filler_rows_are_marked_copies_of_the_first_row() -> None:
    (batch,) = eval_batches(Frames((200, 190, 195)))
    assert batch.index.tolist() == [0, 1, 2, -1]
    assert batch.num_frames.tolist() == [200, 190, 195, 200]
    np.testing.assert_array_equal(batch.fbank[3], batch.fbank[0])


def test_shapes_are_few_and_bounded(source: Frames, batches: list[EvalBatch]) -> None:
    buckets = length_buckets(source.num_frames)
    shapes = [batch.fbank.shape for batch in batches]
    assert len(set(shapes)) <= 2 * len(buckets)
    assert {num_frames for _, num_frames, _ in shapes} <= set(buckets)
    for batch, (batch_size, num_frames, _) in zip(batches, shapes, strict=True):
        assert batch_size * num_frames <= 2000
        is_full = batch_size == 2000 // num_frames and (batch.index >= 0).all()
        num_rows = (batch.index >= 0).sum()
        assert is_full or batch_size == min(2000 // num_frames, 2 ** int(np.ceil(np.log2(num_rows))))


def test_waiting_for_a_full_batch_pads_to_twice_the_length_at_most(source: Frames, batches: list[EvalBatch]) -> None:
    for batch in batches:
        own_buckets = [length_buckets(np.array([length]))[0] for length in batch.num_frames]
        assert batch.fbank.shape[1] <= max(max(own_buckets), 2 * min(batch.num_frames))
        assert batch.fbank.shape[1] <= 2 * min(batch.num_frames) or len(set(own_buckets)) == 1


def padded_share(lengths: np.ndarray, **options: int) -> float:
    plan = plan_batches(lengths, **options)
    return 1 - lengths.sum() / sum(batch.batch_size * batch.num_frames for batch in plan)


def test_buckets_do_not_depend_on_the_other_utterances() -> None:
    lengths = np.random.default_rng(1).integers(1, 13_000, 4000)
    every = length_buckets(lengths)
    assert list(every) == sorted(set(every))
    assert len(every) < 30
    assert every[-1] == 12_000
    for length in lengths[:50]:
        (bucket,) = length_buckets(np.array([length]))
        assert bucket in every
        assert bucket == next(candidate for candidate in every if candidate >= min(length, 12_000))


def test_little_is_padded_in_a_large_list_and_not_much_in_a_small_one() -> None:
    """Lengths as in VoxCeleb1: 4 s to 145 s, 8.2 s on average."""
    lengths = np.minimum(400 + np.random.default_rng(2).exponential(420, 20_000), 14_500).astype(int)
    assert 0.02 < padded_share(lengths, max_frames=14_500) < 0.1
    assert padded_share(lengths[:100], max_frames=14_500) < 0.35
    assert padded_share(lengths[:1], max_frames=14_500) < 0.17


def test_of_a_very_long_utterance_the_middle_is_taken() -> None:
    (batch,) = eval_batches(Frames((1000,)), max_frames=300)
    np.testing.assert_array_equal(batch.fbank[0, :, 1], np.arange(350, 650))
    assert batch.num_frames[0] == 300


def test_rows_are_a_multiple_for_the_devices(source: Frames) -> None:
    batches = list(eval_batches(source, frames_per_batch=2000, batch_multiple=3))
    assert {len(batch.index) % 3 for batch in batches} == {0}
    assert {len(batch.index) for batch in batches if batch.fbank.shape[1] > 1000} == {3}  # more than 2000 frames
    assert sorted(rows(batches)) == list(range(len(source.lengths)))


def test_shards_are_a_source(source: Frames, tmp_path: Path) -> None:
    utterances = [UtteranceFbank(str(i), "speaker", source.fbank(i)) for i in range(10)]
    write_shards(tmp_path / "shards", utterances, spec=FbankSpec(num_mel_bins=2), provenance={})
    found = rows(list(eval_batches(open_shards(tmp_path / "shards"))))
    for index in range(10):
        np.testing.assert_array_equal(found[index], source.fbank(index))


def test_no_utterances_give_no_batches() -> None:
    assert list(eval_batches(Frames(()))) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames_per_batch": 0}, "frames_per_batch is 0; it must be at least 1"),
        ({"max_frames": 0}, "max_frames is 0; it must be at least 1"),
        ({"batch_multiple": 0}, "batch_multiple is 0; it must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_batches(np.array([5]), **options)


def test_an_utterance_without_frames_is_named() -> None:
    with pytest.raises(UserError, match="Utterance 2 of the source has no frames"):
        list(eval_batches(Frames((5, 6, 0))))
