"""The commands that use a run: its own code runs where its user trained, and elsewhere only if allowed."""

import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner

from mqmha_jax.cli import main
from mqmha_jax.config_io import with_overrides
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.load_network import load_network
from mqmha_jax.runs.state import initial_network
from mqmha_jax.runs.workdir import lock_workdir
from tests.support.tiny import tiny_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose pooling is a file of the user's own, and the user's state directory."""
    root = tmp_path_factory.mktemp("trained")
    (root / "mine.py").write_text("from mqmha_jax.models.pooling import POOLINGS\nPooling = POOLINGS['tstp']\n")
    config = with_overrides(tiny_config({}), [f"model.pooling={root / 'mine.py'}:Pooling"])
    net = build_speaker_net(config.model)
    shapes = jax.eval_shape(partial(initial_network, config, net))
    network = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), shapes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(root / "state"))
        with lock_workdir(root / "run", config, {}, []), Checkpoints(root / "run") as checkpoints:
            checkpoints.save_network(7, network, {})
    return root


def test_the_run_loads_from_any_folder_for_who_trained_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(trained / "state"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "run", tmp_path / "copy")
    assert load_network(Path("copy")).step == 7


@pytest.mark.parametrize(
    "command",
    [
        ["embed", "RUN", "audio.wav", "--output", "out.npz"],
        ["verify", "RUN", "a.wav", "b.wav"],
        ["evaluate", "RUN", "--data", "shards", "--trials", "trials"],
        ["average", "RUN", "--output", "mean", "--last", "1"],
        ["export", "RUN", "--output", "out.safetensors"],
        ["train", "RUN/config.json", "--workdir", "new"],
        ["show", "RUN/config.json"],
    ],
    ids=lambda command: command[0],
)
def test_a_received_run_runs_no_code_and_names_it(
    command: list[str], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mqmha_jax.models.registry.run_python_file", lambda path, what: pytest.fail("the code ran"))
    result = CliRunner().invoke(main, [word.replace("RUN", str(trained / "run")) for word in command])
    assert result.exit_code == 1, result.output
    assert "runs code, Pooling in " in result.output
    assert "mine.py, that you have not trained with" in result.output
    assert "add --allow-code" in result.output


def test_a_received_run_loads_where_code_is_allowed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.wav").touch()
    command = ["verify", str(trained / "run"), "empty.wav", "empty.wav", "--allow-code"]
    assert "empty.wav" in CliRunner().invoke(main, command).output  # past the network
