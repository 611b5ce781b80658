"""--train-with of launch/voxceleb.py: a job that runs elsewhere is submitted once; what was killed starts again."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from mqmha_jax.config import Config
from mqmha_jax.errors import UserError
from tests.support.paths import ROOT

Training = Callable[[str], dict[str, object]]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Training:
    """Does the stage ``base`` in ``tmp_path`` with a command that does the given job."""
    monkeypatch.syspath_prepend(str(ROOT / "launch"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # the module sets it
    import voxceleb
    from stages import Stage

    (tmp_path / "train.sh").write_text('echo "$@" >> calls; . ./job')
    monkeypatch.chdir(tmp_path)
    one = Stage(name="data", root=tmp_path, work=lambda folder: {})
    data = SimpleNamespace(train=one, eval=one, dev_list=one, noises=one, list_path=lambda name: Path("O.txt"))
    options = SimpleNamespace(work=tmp_path, augment="device", train_with="sh train.sh")
    config = Config()

    def train(job: str) -> dict[str, object]:
        (tmp_path / "job").write_text(job)
        stage = voxceleb.Maker(options, data, {"base": config}, None).training("base", "base", "recipe", [])
        return dict(stage.work(tmp_path / "base"))

    (tmp_path / "base").mkdir()
    return train


FINISHES = f"""mkdir -p base/run/checkpoints/{Config().train.steps}
echo '{json.dumps({"num_speakers": 2, "fingerprint": "f"})}' > base/run/data.json"""


def num_calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


def test_a_job_that_runs_elsewhere_is_submitted_once(train: Training, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has not reached step"):
        train("true")
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"was submitted at 20.*: sh train\.sh .*remove \S*submitted\.txt to submit"
        ):
            train("true")
    assert num_calls(tmp_path) == 1
    (tmp_path / "base" / "submitted.txt").unlink()
    with pytest.raises(UserError, match="has not reached step"):
        train("true")
    assert num_calls(tmp_path) == 2
    subprocess.run(["sh", "-c", FINISHES], cwd=tmp_path, check=True)  # elsewhere
    assert train("false")["speakers"] == 2
    assert num_calls(tmp_path) == 2


def test_a_command_that_was_killed_or_failed_starts_again(train: Training, tmp_path: Path) -> None:
    for job in ("kill -9 $$", "exit 143"):
        with pytest.raises(UserError, match="ended with status"):
            train(job)
    assert train(FINISHES)["speakers"] == 2
    assert num_calls(tmp_path) == 3
