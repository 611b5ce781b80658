"""A stress test replaces its own files alone: never the user's, and never what it reads."""

import os
from pathlib import Path

import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.results import Measured
from mqmha_jax.stress import report
from mqmha_jax.stress.kept import KeptEmbeddings
from mqmha_jax.stress.report import check_output, write_stress
from mqmha_jax.stress.results import ListUnderStress, StressTest, Suffering

CLEAN = Suffering(Measured(0.1, 0.05, 0.2), Measured(0, 0, 0), 0.1, 0.1)
TEST = StressTest((ListUnderStress("eval", 1, 1, 2, True, {"clean": CLEAN}),), None, {}, {}, ())


@pytest.mark.parametrize("name", ["stress.json", "stress.txt", "stress.png", "stress.html"])
def test_files_of_the_user_are_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"stress": "high"}')
    with pytest.raises(UserError, match=rf"already holds {name}, which the stress test would .*Give another --output"):
        check_output(tmp_path)


def test_embeddings_of_the_user_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "clean.npz").write_text("the user's own")
    with pytest.raises(UserError, match=r"clean\.npz, which the stress test would replace, and no setup\.json of an"):
        KeptEmbeddings(tmp_path, {})


def test_a_list_under_the_name_of_a_result_is_refused(tmp_path: Path) -> None:
    write_stress(tmp_path, TEST, title="tiny")
    with pytest.raises(UserError, match=r"stress\.txt is an input, and the stress test replaces .*another --output"):
        check_output(tmp_path, inputs=[tmp_path / "stress.txt"])


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    folder = os.fsdecode(b"voices \xff")
    write_stress(tmp_path, TEST._replace(settings={"noise": folder}), title=folder)
    assert (tmp_path / "stress.html").read_text().count(r"voices \udcff") == 3  # window, heading, setting


def test_checking_leaves_no_directory_behind(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def test_a_stress_test_that_was_killed_while_it_wrote_can_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "draw_stress", kill)
    with pytest.raises(KeyboardInterrupt):
        write_stress(tmp_path, TEST, title="tiny")
    assert (tmp_path / "stress.txt").exists()
    check_output(tmp_path)
