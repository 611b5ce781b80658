"""Others read a run while it saves, keeps only the newest step and removes the rest."""

import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.runs import checkpoint
from mqmha_jax.runs.checkpoint import Checkpoints
from tests.support.best_step import find_best_step
from tests.support.faulty_jobs import state


def save_steps(workdir: Path, last: int) -> None:
    with Checkpoints(workdir, keep=1) as checkpoints:
        for step in range(1, last + 1):
            checkpoints.save(state(step))
        checkpoints.wait()


def watch(workdir: Path, last: int) -> int:
    """Reads as often as possible while another process saves; every answer has to be of one complete step."""
    training = multiprocessing.get_context("spawn").Process(target=save_steps, args=(workdir, last))
    training.start()
    reads = 0
    while training.is_alive():
        with Checkpoints(workdir) as checkpoints:
            if not checkpoints.steps:
                continue
            assert find_best_step(workdir) is None
            network, step = checkpoints.restore_network(state(0).network())
            head, later = checkpoints.restore_head()
        jax.tree.map(np.testing.assert_array_equal, network, state(step).network())
        jax.tree.map(np.testing.assert_array_equal, head, state(later).params["head"])
        assert step <= later
        reads += 1
    assert training.exitcode == 0
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.latest_step == last
    return reads


def test_readers_get_a_complete_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert watch(tmp_path, 10) >= 2
    assert not caplog.text  # nobody is told that a checkpoint is damaged


@pytest.mark.slow
def test_many_readers_get_a_complete_step(tmp_path: Path) -> None:
    assert watch(tmp_path, 200) > 50


def test_a_step_is_not_removed_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Checkpoints(tmp_path) as reader, Checkpoints(tmp_path, keep=1) as writer:
        writer.save(state(1))
        writer.wait()
        load, seen = checkpoint.load_trees, []

        def load_late(*args: object) -> object:
            writer.save(state(2))
            writer.wait()
            seen.append(writer.steps)
            return load(*args)

        monkeypatch.setattr(checkpoint, "load_trees", load_late)
        assert reader.restore_network(state(0).network())[1] == 1
        assert seen == [[1, 2]]
        writer.save(state(3))
        writer.wait()
        assert writer.steps == [3]


def test_a_step_that_was_removed_a_moment_before_gives_way_to_the_next(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as reader, Checkpoints(tmp_path, keep=1) as writer:
        writer.save(state(1))
        writer.wait()
        find, tried = reader._on_disk.choose_step, []

        def find_early(step: int | None) -> int:
            existing = find(step)
            tried.append(existing)
            writer.save(state(2))
            writer.wait()
            return existing

        reader._on_disk.choose_step = find_early
        assert reader.restore_network(state(0).network())[1] == 2
        assert tried == [1, 2]
        with pytest.raises(UserError, match=r"No checkpoint of step 1 in .*available steps: \[2\]"):
            reader.restore_network(state(0).network(), 1)


def test_reading_changes_nothing_in_a_directory(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.steps == []
        assert find_best_step(tmp_path / "run") is None
    assert not (tmp_path / "run").exists()


def remove_all_but_the_newest(workdir: Path) -> list[int]:
    """As training does after each save; a checkpoint that somebody reads stays."""
    with Checkpoints(workdir, keep=1) as checkpoints:
        checkpoints.wait()
        return checkpoints.steps


@pytest.fixture
def three_steps(tmp_path: Path) -> Path:
    """A run with the checkpoints of steps 1, 2 (the best) and 3."""
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(state(step), eer=(1 + abs(step - 2)) / 10)
            checkpoints.wait()
    return tmp_path


def test_parts_of_one_step_are_read_while_training_removes_old_ones(three_steps: Path) -> None:
    with Checkpoints(three_steps) as reader:

        def read(step: int) -> tuple[object, object, int]:
            network = reader.restore_network(state(0).network(), step)[0]
            assert remove_all_but_the_newest(three_steps) == [2, 3]
            return network, reader.restore_head(step)[0], step

        network, head, step = reader.read("best", read)
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, network, state(2).network())
    jax.tree.map(np.testing.assert_array_equal, head, state(2).params["head"])
    assert remove_all_but_the_newest(three_steps) == [3]


def test_the_best_step_is_chosen_again_if_training_removes_it_before_it_is_read(three_steps: Path) -> None:
    with Checkpoints(three_steps) as reader:
        find, tried = reader._on_disk.choose_step, []

        def find_early(step: object) -> int:
            tried.append(find(step))
            with Checkpoints(three_steps, keep=1, keep_best=1) as writer:
                writer.save(state(4), eer=0.0)
                writer.wait()
            return tried[-1]

        reader._on_disk.choose_step = find_early
        assert reader.read("best", lambda step: reader.restore_head(step)[1]) == 4
    assert tried[:2] == [2, 4]


def test_all_checkpoints_of_an_average_stay_until_it_is_read(three_steps: Path) -> None:
    with Checkpoints(three_steps) as reader:

        def read(steps: Sequence[int]) -> list[int]:
            found = []
            for step in steps:
                found.append(reader.restore_head(step)[1])
                assert remove_all_but_the_newest(three_steps) == [1, 2, 3]
            return found

        assert reader.read_last(3, read) == [1, 2, 3]
        assert remove_all_but_the_newest(three_steps) == [3]
        with pytest.raises(UserError, match=r"has 1 checkpoint, not 2; train\.keep_checkpoints says how many"):
            reader.read_last(2, read)
