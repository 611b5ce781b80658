"""Checkpoints of a run: which stay, and what is said about damaged ones. Crashes are in test_faults.py."""

from pathlib import Path

import jax
import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.runs.checkpoint import Checkpoints
from tests.support.best_step import find_best_step
from tests.support.faulty_jobs import state
from tests.support.jobs import refused_elsewhere


def names(workdir: Path) -> list[str]:
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


def save_all(workdir: Path, eers: list[float | None], **kept: int) -> None:
    with Checkpoints(workdir, **kept) as checkpoints:
        for step, eer in enumerate(eers, start=1):
            checkpoints.save(state(step), eer=eer)
        checkpoints.wait()


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A work directory with the checkpoints of steps 1 and 2."""
    save_all(tmp_path, [None, None], keep=2)
    return tmp_path


@pytest.mark.parametrize(
    ("keep", "keep_best", "eers", "stay"),
    [
        (2, 0, [0.1, 0.2, 0.3, 0.4], ["3", "4"]),
        (1, 1, [0.3, 0.1, None, 0.2], ["2", "4"]),
        (1, 2, [0.3, 0.1, 0.2, None], ["2", "3", "4"]),
        (1, 1, [0.2, 0.2, None, None], ["1", "4"]),  # the earlier one of equals
        (1, 1, [None, None, None, None], ["4"]),
    ],
)
def test_the_latest_and_the_best_stay(
    tmp_path: Path, keep: int, keep_best: int, eers: list[float | None], stay: list[str]
) -> None:
    save_all(tmp_path, eers, keep=keep, keep_best=keep_best)
    assert names(tmp_path) == stay
    with Checkpoints(tmp_path) as checkpoints:  # as a new process finds them
        assert [str(step) for step in checkpoints.steps] == stay
        evaluated = {step: eer for step, eer in enumerate(eers, start=1) if str(step) in stay and eer}
        assert find_best_step(tmp_path) == min(evaluated, key=evaluated.get, default=None)


@pytest.mark.parametrize(("last", "stay"), [(4, ["2", "4"]), (5, ["2", "4", "5"]), (6, ["4", "6"])])
def test_one_that_an_interruption_saved_stays_until_the_next(tmp_path: Path, last: int, stay: list[str]) -> None:
    with Checkpoints(tmp_path, keep=2, is_planned=lambda step: step % 2 == 0) as checkpoints:
        for step in range(1, last + 1):
            checkpoints.save(state(step))
            checkpoints.wait()
    assert names(tmp_path) == stay


def test_a_checkpoint_counts_when_it_is_complete_and_not_before(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.steps) == (None, [])
        checkpoints.save(state(1))
        checkpoints.wait()
        checkpoints.save(state(2))
        assert checkpoints.steps == [int(name) for name in names(tmp_path) if name.isdigit()]
        checkpoints.wait()
        assert checkpoints.steps == [1, 2]
        restored = checkpoints.restore(state(0))
    jax.tree.map(np.testing.assert_array_equal, restored, state(2))


def test_a_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(UserError, match=r"checkpoints cannot be made: File exists"):
        Checkpoints(tmp_path, keep=2)


def test_the_same_step_is_saved_once(two: Path) -> None:
    with Checkpoints(two, keep=2) as checkpoints:
        checkpoints.save(state(2, fill=7))
        checkpoints.wait()
        jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(state(0)), state(2))


def test_a_reader_removes_nothing(two: Path) -> None:
    (two / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir()  # somebody may be writing it
    with Checkpoints(two) as checkpoints:
        assert checkpoints.steps == [1, 2]
    assert names(two) == ["1", "2", "3.orbax-checkpoint-tmp"]


def test_a_step_that_is_not_there_is_named(two: Path, tmp_path: Path) -> None:
    with (
        Checkpoints(two) as checkpoints,
        pytest.raises(UserError, match=r"No checkpoint of step 5 .*available steps: \[1, 2\]"),
    ):
        checkpoints.restore_network(state(0).network(), 5)
    with Checkpoints(tmp_path / "none") as checkpoints, pytest.raises(UserError, match="No complete checkpoint in"):
        checkpoints.restore(state(0))


def test_a_directory_that_can_not_be_written_is_named(two: Path) -> None:
    with Checkpoints(two, keep=2) as checkpoints:
        (two / "checkpoints").rename(two / "elsewhere")
        with pytest.raises(UserError, match=r"could not be written to .*checkpoints: .*No such file"):
            checkpoints.save(state(3))


def test_no_process_enters_orbax_when_the_first_cannot_make_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mqmha_jax.runs.checkpoint.raise_together", refused_elsewhere)
    monkeypatch.setattr("mqmha_jax.runs.checkpoint.ocp.save_checkpointables_async", lambda *_: pytest.fail("entered"))
    monkeypatch.setattr(Checkpoints, "wait", lambda self: None)
    with Checkpoints(tmp_path, keep=2) as checkpoints, pytest.raises(UserError, match="another process"):
        checkpoints.save(state(1))
