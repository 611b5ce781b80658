"""Any changed byte of a run is refused by name, or the reader gets the same numbers."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.json_file import write_sealed_json
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.log_lines import read_log
from mqmha_jax.runs.workdir import list_changes, read_config, read_speakers
from tests.support.best_step import find_best_step
from tests.support.faulty_jobs import resume, state
from tests.support.flips import flip_each, refusal_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the checkpoints of steps 1 (the best) and 4 (the newest), and four lines of log."""
    workdir = tmp_path_factory.mktemp("run")
    for _ in range(4):
        resume(workdir)
    return workdir


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "copy")


class Reader:
    """Reads the parts of a run and compares them with what was written."""

    def __init__(self, run: Path) -> None:
        self.workdir = run
        self.run = json.loads((run / "config.json").read_text())
        self.log = read_log(run)

    def check(self, path: Path) -> None:
        """What is read where the file at ``path`` matters."""
        with Checkpoints(self.workdir) as checkpoints:
            assert checkpoints.steps == [1, 4]
            assert find_best_step(self.workdir) in (1, None)
            if "4" in path.parts:
                assert_equal(checkpoints.restore(state(0)), state(4))
            elif "1" in path.parts:
                assert_equal(checkpoints.restore_network(state(0).network(), 1)[0], state(1).network())
                assert_equal(checkpoints.restore_head(1)[0], state(1).params["head"])
            else:
                checkpoints.restore_head(4)  # refuses options and data that differ from those in the manifest
                read_config(self.workdir)
                assert list_changes(self.workdir, {"configuration": self.run}) == []
                assert read_speakers(self.workdir) == ["s0", "s1"]
                assert all(line in self.log for line in read_log(self.workdir))


def assert_equal(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def flip_everywhere(run: Path, per_file: int, every: int = 1) -> tuple[int, int]:
    """Number of flips in every n-th file, and of those that were refused."""
    reader = Reader(run)
    tried = refused = 0
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and "tensorboard" not in path.parts]
    for number, path in enumerate(files[::every]):
        size = path.stat().st_size
        for _ in flip_each(path, random.Random(number).sample(range(size), min(per_file, size))):
            refusal = refusal_of(lambda path=path: reader.check(path))
            # Where options of the run differ from those in the manifest, they are named.
            assert refusal is None or str(run) in refusal or path.name == "config.json", refusal
            tried, refused = tried + 1, refused + (refusal is not None)
        reader.check(path)
    return tried, refused


def test_a_changed_bit_is_refused_or_changes_no_number(copy: Path) -> None:
    tried, refused = flip_everywhere(copy, 1, every=3)
    assert tried > 13
    assert refused > tried / 2  # the rest: white space, lines of the log, options that change no number


@pytest.mark.slow
def test_a_changed_bit_anywhere_is_refused_or_changes_no_number(copy: Path) -> None:
    tried, refused = flip_everywhere(copy, 30)
    assert refused > tried / 2


def checkpoint(workdir: Path, step: int) -> Path:
    return workdir / "checkpoints" / str(step)


def test_a_part_of_another_step_is_refused_by_name(copy: Path) -> None:
    shutil.rmtree(checkpoint(copy, 4) / "arrays" / "head")
    shutil.copytree(checkpoint(copy, 1) / "arrays" / "head", checkpoint(copy, 4) / "arrays" / "head")
    with Checkpoints(copy) as checkpoints, pytest.raises(UserError) as error:
        checkpoints.restore_head()
    message = str(error.value)
    assert "The checkpoint of step 4 in" in message
    assert "/4/arrays/head/" in message
    assert f"delete {checkpoint(copy, 4)} to use another checkpoint. Available steps: 1, 4." in message


def test_a_lost_head_is_damage(copy: Path) -> None:
    shutil.rmtree(checkpoint(copy, 4) / "arrays" / "head")
    with Checkpoints(copy) as checkpoints, pytest.raises(UserError, match=r"/4 to use another checkpoint"):
        checkpoints.restore_head()


def test_a_renamed_step_is_refused_with_its_true_step(copy: Path) -> None:
    checkpoint(copy, 1).rename(checkpoint(copy, 9))
    with (
        Checkpoints(copy) as checkpoints,
        pytest.raises(UserError, match=r"/9 holds the checkpoint of step 1\. Rename it to 1, or restore"),
    ):
        checkpoints.restore_network(state(0).network())


def test_a_lost_manifest_is_refused(copy: Path) -> None:
    (checkpoint(copy, 4) / "manifest.json").unlink()
    with Checkpoints(copy) as checkpoints, pytest.raises(UserError, match=r"4/manifest\.json cannot be read"):
        checkpoints.restore(state(0))


def test_a_manifest_of_a_newer_version_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mqmha_jax.runs.manifest.FORMAT_VERSION", 0)
    with Checkpoints(copy) as checkpoints, pytest.raises(UserError, match=r"has format version 1.*Update mqmha_jax"):
        checkpoints.restore(state(0))


def test_a_manifest_without_its_files_is_a_sentence(copy: Path) -> None:
    write_sealed_json(checkpoint(copy, 4) / "manifest.json", {"format_version": 1, "step": 4, "eer": None, "run": {}})
    with (
        Checkpoints(copy) as checkpoints,
        pytest.raises(UserError, match=r"manifest\.json is incomplete: it has no fi"),
    ):
        checkpoints.restore_head()


def test_a_damaged_old_step_is_reported_and_passed_over(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Training goes on, the newest is loaded, and the damaged one is neither the best nor removed."""
    (checkpoint(copy, 1) / "manifest.json").write_text("{}")
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.steps == [1, 4]
        assert find_best_step(copy) is None
        assert_equal(checkpoints.restore(state(0)), state(4))
    assert "The checkpoint of step 1 is passed over" in caplog.text
    assert str(checkpoint(copy, 1)) in caplog.text
    assert resume(copy) == 5
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.steps == [1, 5]


def test_a_configuration_edited_after_the_save_is_named(copy: Path) -> None:
    path = copy / "config.json"
    path.write_text(path.read_text().replace('"scale": 10.0', '"scale": 30.0'))
    with Checkpoints(copy) as checkpoints, pytest.raises(UserError) as error:
        checkpoints.restore(state(0))
    assert "is not the run that saved its checkpoint of step 4" in str(error.value)
    assert "loss.scale: 10.0 -> 30.0" in str(error.value)


def test_a_checkpoint_of_another_data_set_is_refused(copy: Path) -> None:
    from mqmha_jax.json_file import write_sealed_json

    write_sealed_json(copy / "data.json", {"fingerprint": "other"})
    with Checkpoints(copy) as checkpoints, pytest.raises(UserError, match=r"data\.json, fingerprint: tiny -> other"):
        checkpoints.restore(state(0))


def test_a_checkpoint_without_a_manifest_of_an_earlier_version_loads_with_a_warning(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 4):
        old = checkpoint(copy, step)
        (old / "manifest.json").unlink()
        for part in list((old / "arrays").iterdir()):
            part.rename(old / part.name)
        (old / "arrays").rmdir()
    (checkpoint(copy, 1) / "metrics").mkdir()
    (checkpoint(copy, 1) / "metrics" / "metrics").write_text('{"eer": 0.5}')
    with Checkpoints(copy) as checkpoints:
        assert find_best_step(copy) == 1
        assert_equal(checkpoints.restore(state(0)), state(4))
    assert "wrote no checksums, so damage in it goes unnoticed" in caplog.text
    assert resume(copy) == 5
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.steps == [1, 5]
