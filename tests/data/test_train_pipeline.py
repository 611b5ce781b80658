"""Training batches are a function of seed and step, on any host and worker."""

import collections
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mqmha_jax.config import DataConfig, FbankSpec
from mqmha_jax.data.sampling import count_crops, epochs_of_utterances
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.data.shard_writer import UtteranceFbank, write_shards
from mqmha_jax.data.speaker_visits import SpeakerVisits
from mqmha_jax.data.train_pipeline import example_utterances, train_batches
from mqmha_jax.errors import UserError
from mqmha_jax.types import Batch

CROP = 50
# Utterances per speaker; the last speaker has one. Lengths are below, at and above the crop.
COUNTS = {"anna": 7, "ben": 4, "cem": 5, "dora": 6, "eve": 1}
NUM_UTTERANCES = sum(COUNTS.values())
OPTIONS: dict[str, Any] = {"batch_size": 8, "crop_frames": CROP}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> FbankShards:
    """Every frame names its source: (utterance, number of the frame)."""
    speakers = [speaker for speaker, count in COUNTS.items() for _ in range(count)]
    utterances = []
    for number, speaker in enumerate(speakers):
        length = [20, CROP, CROP + 1, 333][number % 4]
        fbank = np.stack([np.full(length, number), np.arange(length)], axis=1).astype(np.float16)
        utterances.append(UtteranceFbank(f"{speaker}-{number}", speaker, fbank))
    directory = tmp_path_factory.mktemp("train") / "shards"
    write_shards(directory, utterances, spec=FbankSpec(num_mel_bins=2), provenance={})
    return open_shards(directory)


def train(shards: FbankShards, *, seed: int = 3, first_step: int = 0, **changes: Any) -> Any:
    rows = changes.pop("rows", None)
    return train_batches(shards, DataConfig(**(OPTIONS | changes)), seed=seed, first_step=first_step, rows=rows)


def take(shards: FbankShards, num_batches: int, **changes: Any) -> list[Batch]:
    iterator = train(shards, **changes)
    try:
        return [next(iterator) for _ in range(num_batches)]
    finally:
        iterator.close()


def by_example(batches: list[Batch]) -> dict[int, tuple[int, bytes]]:
    """Maps the index in the global sequence to the sample, for any row of any batch."""
    rows = {
        int(example): (int(speaker), fbank.tobytes())
        for batch in batches
        for example, speaker, fbank in zip(batch["example"], batch["speaker"], batch["fbank"], strict=True)
    }
    assert len(rows) == sum(len(batch["example"]) for batch in batches)
    return rows


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])  # type: ignore[literal-required]


def utterance_of(batch: Batch) -> np.ndarray:
    return batch["fbank"][:, 0, 0].astype(int)


def test_a_row_is_a_crop_of_its_speakers_utterance(shards: FbankShards) -> None:
    starts = collections.defaultdict(set)
    for batch in take(shards, 60):
        assert batch["fbank"].shape == (8, CROP, 2)
        assert batch["num_frames"].tolist() == [CROP] * 8
        for fbank, speaker, number in zip(batch["fbank"], batch["speaker"], utterance_of(batch), strict=True):
            assert (fbank[:, 0] == number).all()
            assert speaker == shards.speaker[number]
            length = shards.num_frames[number]
            np.testing.assert_array_equal(fbank[:, 1], (fbank[0, 1] + np.arange(CROP)) % length)
            starts[length].add(int(fbank[0, 1]))
    assert starts[20] == starts[CROP] == {0}
    assert starts[CROP + 1] == {0, 1}
    assert min(starts[333]) < 30
    assert max(starts[333]) > 333 - CROP - 30
    assert len(starts[333]) > 60


@pytest.mark.parametrize("change", [{}, {"sampling": "duration"}, {"sampling": "speaker", "utterances_per_speaker": 4}])
def test_any_batch_can_be_the_first(shards: FbankShards, change: dict[str, Any]) -> None:
    whole = take(shards, 9, **change)
    assert_same(take(shards, 4, first_step=5, **change), whole[5:])
    assert [batch["example"][0] for batch in whole] == [8 * step for step in range(9)]


@pytest.mark.parametrize("change", [{}, {"sampling": "speaker", "utterances_per_speaker": 2}])
@pytest.mark.parametrize("rows", [range(4, 8), (0, 1, 6, 7)])
def test_a_process_gets_its_rows_of_the_same_batches(
    shards: FbankShards, rows: Sequence[int], change: dict[str, Any]
) -> None:
    """Every n-th row would also share the batches, but in an order of rows that depends on the number of processes."""
    whole, part = take(shards, 6, **change), take(shards, 4, rows=rows, first_step=2, **change)
    assert_same(part, [{name: value[list(rows)] for name, value in batch.items()} for batch in whole[2:]])


@pytest.mark.slow
@pytest.mark.parametrize("read_threads", [1, 9])
def test_threads_change_nothing(shards: FbankShards, read_threads: int) -> None:
    assert_same(take(shards, 7, first_step=2, read_threads=read_threads), take(shards, 7, first_step=2))


def test_more_threads_hide_slow_reads(shards: FbankShards, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread has a batch in progress."""
    reading, most, lock = 0, 0, threading.Lock()
    crop = FbankShards.crop

    def slow(self: FbankShards, *place: int) -> np.ndarray:
        nonlocal reading, most
        with lock:
            reading += 1
            most = max(most, reading)
        time.sleep(0.02)
        with lock:
            reading -= 1
        return crop(self, *place)

    monkeypatch.setattr(FbankShards, "crop", slow)
    take(shards, 12, read_threads=12)
    assert most >= 9


@pytest.mark.parametrize("num_workers", [1, 3])
def test_worker_processes_change_nothing_and_lose_no_batch(shards: FbankShards, num_workers: int) -> None:
    """Takes many epochs of 23 utterances in batches of 8, which three workers cannot share evenly (grain 1129)."""
    assert NUM_UTTERANCES % 8
    batches = take(shards, 31, first_step=2, num_workers=num_workers)
    assert_same(batches, take(shards, 31, first_step=2))
    assert np.concatenate([batch["example"] for batch in batches]).tolist() == list(range(16, 16 + 31 * 8))


def test_the_seed_changes_order_and_crops(shards: FbankShards) -> None:
    ours, theirs = take(shards, 12), take(shards, 12, seed=4)
    assert [utterance_of(batch).tolist() for batch in ours] != [utterance_of(batch).tolist() for batch in theirs]
    long = {shards.utterance(number): number for number in range(len(shards)) if shards.num_frames[number] == 333}
    crops = [
        {row[0, 1] for b in batches for row in b["fbank"] if row[0, 0] in long.values()} for batches in (ours, theirs)
    ]
    assert crops[0] != crops[1]


def test_every_epoch_has_every_utterance_once_in_a_new_order() -> None:
    sequence = epochs_of_utterances(np.ones(NUM_UTTERANCES, np.int64), seed=0)
    epochs = [[sequence[epoch * NUM_UTTERANCES + i] for i in range(NUM_UTTERANCES)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(NUM_UTTERANCES)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_duration_sampling_draws_an_utterance_as_often_as_it_holds_crops() -> None:
    sequence = epochs_of_utterances(count_crops(np.array([10, 100, 149, 250, 1000]), 100), seed=0)
    epochs = [collections.Counter(sequence[15 * epoch + i] for i in range(15)) for epoch in range(2)]
    assert epochs[0] == epochs[1] == {0: 1, 1: 1, 2: 1, 3: 2, 4: 10}


def equal_visits(speaker: np.ndarray, speakers_per_batch: int, utterances_per_speaker: int, seed: int) -> SpeakerVisits:
    return SpeakerVisits(
        np.arange(len(speaker), dtype=np.int32),
        speaker,
        np.ones(speaker.max() + 1),
        speakers_per_batch=speakers_per_batch,
        utterances_per_speaker=utterances_per_speaker,
        seed=seed,
    )


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    speakers_per_batch=st.integers(1, 6),
    utterances_per_speaker=st.integers(1, 4),
    batch=st.integers(0, 50),
)
@example(counts=[3], speakers_per_batch=1, utterances_per_speaker=4, batch=4)
def test_a_batch_has_different_speakers_with_different_utterances(
    counts: list[int], speakers_per_batch: int, utterances_per_speaker: int, batch: int
) -> None:
    speaker = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    sequence = equal_visits(speaker, speakers_per_batch, utterances_per_speaker, seed=1)
    size = speakers_per_batch * utterances_per_speaker
    drawn = np.array([sequence[batch * size + i] for i in range(size)]).reshape(speakers_per_batch, -1)
    assert (speaker[drawn] == speaker[drawn[:, :1]]).all()
    if len(counts) >= speakers_per_batch:
        assert len(set(speaker[drawn[:, 0]])) == speakers_per_batch
    for group in drawn:
        assert len(set(group)) == min(utterances_per_speaker, counts[speaker[group[0]]])


def test_speaker_sampling_draws_speakers_and_their_utterances_equally_often() -> None:
    counts = [1, 2, 3, 6]
    speaker = np.repeat(np.arange(4), counts).astype(np.int32)
    sequence = equal_visits(speaker, 2, 1, seed=0)
    drawn = collections.Counter(sequence[i] for i in range(4 * 6 * 5))
    assert drawn == {utterance: 6 * 5 // counts[speaker[utterance]] for utterance in range(sum(counts))}


def test_an_example_identifies_its_utterance(shards: FbankShards) -> None:
    for change in ({}, {"sampling": "duration"}, {"sampling": "speaker", "utterances_per_speaker": 2}):
        batch = take(shards, 1, first_step=11, **change)[0]
        data = DataConfig(**(OPTIONS | change))
        names = example_utterances(shards, data, [int(index) for index in batch["example"]], seed=3)
        assert names == [shards.utterances[number] for number in utterance_of(batch)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, r"batch_size must be an integer above 0, but it is 0"),
        ({"crop_frames": 0}, r"crop_frames must be an integer above 0, but it is 0"),
        ({"seed": -1}, r"train.seed is -1; it must lie between 0 and"),
        ({"utterances_per_speaker": 3, "sampling": "speaker"}, r"batch_size=8 is not a multiple of .*per_speaker=3"),
        ({"utterances_per_speaker": 2}, r"utterances_per_speaker=2 needs data.sampling=speaker, not utterance"),
        (
            {"sampling": "speaker", "speaker_exponent": 0.5},
            r"sampling=speaker draws all speakers equally often",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(shards: FbankShards, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(shards, **changes)


def test_speakers_with_too_few_utterances_are_reported_and_used(
    shards: FbankShards, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        batches = take(shards, 20, sampling="speaker", utterances_per_speaker=2)
    assert "1 of 5 speakers" in caplog.text
    assert "fewer than 2 utterances (1 have one), eve for instance" in caplog.text
    assert any(4 in batch["speaker"] for batch in batches)


def damaged(shards: FbankShards, directory: Path) -> FbankShards:
    """A copy of the shards with damage in its only file of frames."""
    for path in shards.directory.iterdir():
        content = bytearray(path.read_bytes())
        if "array_record" in path.name:
            content[200:210] = bytes(10)
        (directory / path.name).write_bytes(content)
    return open_shards(directory)


@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_damaged_record_stops_training_and_is_named(shards: FbankShards, tmp_path: Path, num_workers: int) -> None:
    with pytest.raises(UserError, match=r"Record \d+ of .*array_record-00000-of-00001 cannot be read"):
        take(damaged(shards, tmp_path), 10, num_workers=num_workers)
