"""A run finds its data from another directory than that of its training, and says where it looked."""

import dataclasses
from pathlib import Path

import pytest

from mqmha_jax.config_io import with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.run_source import RunSource
from mqmha_jax.evaluation.evaluate_lists import evaluate_run
from mqmha_jax.runs.data_paths import explain_path, locate_data
from mqmha_jax.runs.workdir import copy_description, lock_workdir, read_config
from mqmha_jax.train.loop import train
from tests.support.tiny import tiny_config, tiny_corpus
from tests.support.tiny_run import TINY, write_tiny_run

RELATIVE = with_overrides(TINY, ['data.train=["one","gs://bucket/two"]', "data.dev=dev", "data.dev_trials=dev/list"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where training was started; the present directory is another one."""
    (tmp_path / "home" / "one").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    lock_workdir(tmp_path / "run", RELATIVE, {}, []).close()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home"


def test_paths_that_exist_where_the_training_started_are_found(home: Path, tmp_path: Path) -> None:
    located = locate_data(RELATIVE, tmp_path / "run").data
    assert located.train == (str(home / "one"), "gs://bucket/two")
    assert located.dev == "dev"  # it exists nowhere
    assert read_config(tmp_path / "run") == RELATIVE
    copy_description(tmp_path / "run", tmp_path / "copy")
    assert locate_data(RELATIVE, tmp_path / "copy").data == located


def test_the_present_directory_comes_first(home: Path, tmp_path: Path) -> None:
    Path("one").mkdir()
    assert locate_data(RELATIVE, tmp_path / "run") == RELATIVE
    assert locate_data(RELATIVE, tmp_path / "of an earlier version") == RELATIVE


def test_a_run_with_absolute_paths_notes_no_directory(home: Path, tmp_path: Path) -> None:
    lock_workdir(tmp_path / "run", with_overrides(TINY, [f"data.train={home}"]), {}, []).close()
    assert not (tmp_path / "run" / "started_in.json").exists()


def test_a_missing_path_is_explained(home: Path, tmp_path: Path) -> None:
    message = explain_path(tmp_path / "run", "data.dev", "dev")
    assert message.endswith(f"relative to the present directory or to the directory {home} (the training's).")
    assert explain_path(tmp_path / "run", "data.dev", "/dev/shards").endswith(f"of the run in {tmp_path / 'run'}.")


def test_evaluation_says_where_the_run_names_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tests.support.tiny_run.TINY", RELATIVE)
    write_tiny_run(tmp_path / "run")
    (tmp_path / "run" / "started_in.json").unlink()
    message = (
        r"dev is not a directory of shards: .*The path is data\.dev of the run in .* relative to the present directory "
        r"or to the directory where the run was trained, which it does not record\. Name .* --data DIR --trials FILE"
    )
    with pytest.raises(UserError, match=message):
        RunSource(tmp_path / "run", progress=False)
    tiny_corpus(tmp_path / "corpus")
    shards = next(path.parent for path in (tmp_path / "corpus").rglob("shards.json"))
    monkeypatch.setattr("mqmha_jax.evaluation.embeddings.run_network.require_same_fbank", lambda *all_: None)
    with pytest.raises(UserError, match=r"no trial list dev/list\. The path is data\.dev_trials of the run.*--trials"):
        evaluate_run(tmp_path / "run", data=[shards], progress=False)


def test_a_run_resumes_from_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    config = tiny_config(tiny_corpus(tmp_path / "corpus"))
    relative = str(Path(str(config.data.train)).relative_to(tmp_path))
    data = dataclasses.replace(config.data, train=relative, dev="", dev_trials="")
    schedule = dataclasses.replace(config.optimizer, schedule="plateau")
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(config, data=data, optimizer=schedule)
    lock_workdir(tmp_path / "run", config, {}, []).close()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{relative} is not a directory of shards"):
        train(config, tmp_path / "another run", progress=False)
    # What is refused after the shards are open, and before anything takes long.
    with pytest.raises(UserError, match="schedule=plateau watches the dev EER"):
        train(config, tmp_path / "run", progress=False)
