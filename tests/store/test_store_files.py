"""The files of a store: whole or not at all, checked on load, safe with many writers and readers."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.store import changes, files
from mqmha_jax.store.changes import add_recordings, list_speakers, remove_speaker
from mqmha_jax.store.files import Network, lock_store, read_blocks, read_state, write_state
from mqmha_jax.store.roster import EMPTY, make_roster
from mqmha_jax.store.search import compute_centres, find_highest
from tests.support.voices import CONFIG

NETWORK = Network("0" * 64, 4, CONFIG.fbank, "net", "", -1)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "people"
    directory.mkdir()
    write_state(directory, 0, NETWORK, EMPTY, [])
    return directory


def add(store: Path, name: str, *recordings: str, seed: int = 0) -> None:
    count = len(recordings)
    add_recordings(store, make_roster(name, recordings, [2.0] * count, [1.0] * count, now=0.0), draw(count, seed))


def draw(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def test_what_is_written_is_read(store: Path) -> None:
    add(store, "anna", "a 0", "ä/1", seed=1)
    add(store, "ben", "b", seed=2)
    stored = read_state(store)
    assert stored.generation == 2
    assert stored.network == NETWORK
    assert stored.roster.speakers == ("anna", "ben")
    assert stored.roster.recordings == ("a 0", "ä/1", "b")
    expected = [np.random.default_rng(seed).normal(size=(n, 4)) for seed, n in ((1, 2), (2, 1))]
    np.testing.assert_allclose(stored.vectors, np.concatenate(expected), rtol=1e-6)
    assert sorted(path.name for path in store.iterdir()) == [".lock", "recordings-2.npz", "store.json", "vectors-2.npy"]


def test_a_recording_counts_once_and_no_other_of_its_name_is_lost(store: Path) -> None:
    def enrol(name: str, *recordings: str, vectors: np.ndarray) -> tuple[list[str], tuple[str, ...]]:
        said: list[str] = []
        count = len(recordings)
        added = make_roster(name, recordings, [2.0] * count, [1.0] * count, now=0.0)
        roster = add_recordings(store, added, vectors, say=said.append)
        return said, roster.recordings

    first, second = draw(2, 1)
    assert enrol("zoe", "a", "b", vectors=np.stack([first, first])) == (
        ["b: zoe has this recording already, as a; it counts once."],
        ("a",),
    )
    generation = read_state(store).generation
    again = first * np.float32(1 + 1e-6)  # as another machine rounds it
    assert enrol("zoe", "day2/a", vectors=again[None])[1] == ("a",)
    assert read_state(store).generation == generation
    assert enrol("zoe", "a", vectors=second[None]) == (
        ["a: zoe has another recording of this name; this one is added as 'a (2)'."],
        ("a", "a (2)"),
    )
    assert enrol("zoe", "a", vectors=draw(1, 3))[1] == ("a", "a (2)", "a (3)")
    assert enrol("ben", "a", vectors=first[None]) == ([], ("a", "a (2)", "a (3)", "a"))  # of another speaker
    np.testing.assert_array_equal(read_state(store).vectors, [first, second, *draw(1, 3), first])
    assert remove_speaker(store, "zoe", ["./a"]).recordings == ("a (2)", "a (3)", "a")


def test_a_state_in_use_outlives_its_files(store: Path) -> None:
    add(store, "anna", "a")
    before = read_state(store)
    copy = np.array(before.vectors)
    remove_speaker(store, "anna")
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(before.vectors))), copy)


@pytest.mark.parametrize("name", ["recordings-1.npz", "vectors-1.npy", "store.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_told(store: Path, name: str, damage: str) -> None:
    add(store, "anna", "a", "b")
    path = store / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[:-7])
    with pytest.raises(UserError, match=r"store\.json|differs from what was written|cannot be read|not a store"):
        read_state(store)


def test_a_newer_format_and_swapped_files_are_refused(store: Path, tmp_path: Path) -> None:
    add(store, "anna", "a")
    description = json.loads((store / "store.json").read_text())
    del description["content_sha256"]
    files.write_sealed_json(store / "store.json", description | {"format_version": 9})
    with pytest.raises(UserError, match="has format version 9; this program reads versions up to 1"):
        read_state(store)
    files.write_sealed_json(store / "store.json", {"format_version": 1})
    with pytest.raises(UserError, match="is incomplete: it has no generation"):
        read_state(store)
    with pytest.raises(UserError, match="is not a store of speakers"):
        read_state(tmp_path)


def test_writers_wait_for_each_other_and_readers_see_whole_states(store: Path) -> None:
    failures: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for i in range(5):
                add(store, name, f"{name}-{i}", seed=i)
        except BaseException as error:
            failures.append(error)

    def read() -> None:
        try:
            for _ in range(40):
                stored = read_state(store)
                assert len(stored.vectors) == stored.generation == len(stored.roster.recordings)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"] + [threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [len(speaker.recordings) for speaker in list_speakers(read_state(store).roster)] == [5, 5, 5]


def test_a_store_in_use_is_a_sentence(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LONGEST_WAIT_S", 0.05)
    with lock_store(store), pytest.raises(UserError, match="is being changed by another process"):
        add(store, "anna", "a")


def test_what_is_no_store_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for directory in (tmp_path / "plain", tmp_path / "missing"):
        with pytest.raises(UserError, match=f"{directory.name} is not a store of speakers"):
            remove_speaker(directory, "anna")
    assert not any((tmp_path / "plain").iterdir())


def test_a_failed_change_leaves_the_state_before(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "anna", "a")

    def broken(*_: object):
        yield np.zeros((1, 4), np.float32)
        raise RuntimeError

    monkeypatch.setattr(changes, "read_blocks", broken)
    with pytest.raises(RuntimeError):
        add(store, "ben", "b")
    assert read_state(store).roster.speakers == ("anna",)


def test_centres_are_means_of_unit_vectors_however_the_blocks_fall(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i, name in enumerate("abcab"):
        add(store, name, f"{i}", f"{i} too", seed=i)
    stored = read_state(store)
    mean = np.array([0.1, -0.2, 0.3, 0.0], np.float32)
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 3)
    centres = compute_centres(read_blocks(stored.vectors), stored.roster, mean)
    vectors = np.array(stored.vectors, np.float64) - mean
    norms = np.linalg.norm(vectors, axis=1)
    for position in range(3):
        own = stored.roster.speaker == position
        expected = (vectors[own] / norms[own, None]).mean(axis=0)
        np.testing.assert_allclose(centres.vectors[position], expected, atol=1e-6)
        assert centres.log_norm[position] == pytest.approx(np.log(norms[own]).mean(), abs=1e-5)
        assert centres.log_duration[position] == pytest.approx(np.log(2))


def test_the_highest_come_first_and_ties_in_order() -> None:
    scores = np.array([0.1, 0.5, 0.5, 0.9, 0.5, -1.0], np.float32)
    assert find_highest(scores, 3).tolist() == [3, 1, 2]
    assert find_highest(scores, 99).tolist() == [3, 1, 2, 4, 0, 5]
    assert find_highest(scores[:0], 3).tolist() == []
