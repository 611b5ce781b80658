"""Code of one's own that fails in a step: a sentence with its file and line, before the work directory is taken."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mqmha_jax.cli import main
from mqmha_jax.config import Config
from mqmha_jax.config_io import with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.train.loop import train
from tests.support.tiny import tiny_config, tiny_corpus

LOSS = """from mqmha_jax.losses import Margin
from helper import divide

def mine() -> Margin:
    def target(cosine, margin, example):
        return {value}
    return Margin(target)
"""
POOLING = """from flax import linen as nn

class Mine(nn.Module):
    @nn.compact
    def __call__(self, frames, mask, *, train=False):
        if not train:
            raise RuntimeError("forgot evaluation")
        return frames.mean(axis=1)
"""


ENCODER = """from flax import linen as nn

class Double(nn.Module):
    @nn.compact
    def __call__(self, fbank, mask, *, train):
        return {factor} * fbank, mask
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny_config(tiny_corpus(tmp_path_factory.mktemp("corpus")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "helper.py").write_text("def divide(x):\n    return x / (1 - 1)\n")
    (tmp_path / "pooling.py").write_text(POOLING)
    return tmp_path


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cosine[:, :, :, 0]", r"own\.py, line 6, in target: IndexError: Too many indices.*names .*own\.py:mine\."),
        ("divide(1) + cosine", r"helper\.py, line 2, in divide: ZeroDivisionError: division by zero\."),
        # One example on each of eight devices.
        ("cosine[:, None] + cosine[None]", r"target target \(.*own\.py, line 5\) .* \(1, 1\)\. .* of shape \(1,\)"),
        ("cosine.mean()", r"returned float32 of shape \(\)\. It must return floating point numbers of shape \(1,\)"),
        ("cosine > 0", r"returned bool of shape \(1,\)\. It must return floating point numbers"),
        ("'text'", r"own\.py, line 5\) returned a value of type str\."),
    ],
)
def test_a_loss_that_fails_in_the_step_is_named_and_leaves_the_directory_free(
    config: Config, folder: Path, value: str, message: str
) -> None:
    (folder / "own.py").write_text(LOSS.format(value=value))
    with pytest.raises(UserError, match=message) as caught:
        train(with_overrides(config, [f"loss.name={folder / 'own.py'}:mine"]), folder / "run", progress=False)
    if caught.value.__cause__ is not None:  # an exception of the user's code
        assert "'mqmha --debug COMMAND ...' shows the traceback" in str(caught.value)
    assert not (folder / "run").exists()


def test_a_pooling_that_fails_in_evaluation_is_named_before_the_run_begins(config: Config, folder: Path) -> None:
    with pytest.raises(UserError, match=r"pooling\.py, line 7, in __call__: RuntimeError: forgot evaluation\."):
        train(with_overrides(config, [f"model.pooling={folder / 'pooling.py'}:Mine"]), folder / "run", progress=False)
    assert not (folder / "run").exists()


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_a_pooling_that_forgets_the_mask_is_named_before_the_run_begins(config: Config, folder: Path) -> None:
    (folder / "pooling.py").write_text(POOLING.replace("not train", "False"))
    with pytest.raises(
        UserError, match=r"The pooling Mine \(.*pooling\.py, line \d+\) returns other values .* padding"
    ):
        train(with_overrides(config, [f"model.pooling={folder / 'pooling.py'}:Mine"]), folder / "run", progress=False)
    assert not (folder / "run").exists()


def test_a_run_starts_from_an_encoder_without_parameters_and_its_changed_code_is_named(
    config: Config, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "encoder.py").write_text(ENCODER.format(factor=2))
    one = with_overrides(config, [f"model.encoder={folder / 'encoder.py'}:Double", "train.steps=1"])
    train(one, folder / "one", progress=False)
    (folder / "encoder.py").write_text(ENCODER.format(factor=3))
    train(with_overrides(one, [f"start.run={folder / 'one'}"]), folder / "two", progress=False)
    assert f"-> {folder / 'encoder.py'}:Double, whose code differs. So" in caplog.text


def test_every_command_names_the_line_and_shows_the_traceback_only_if_asked(folder: Path) -> None:
    (folder / "own.py").write_text("def mine(power: float = 2.0):\n    return 1 / (power - power)\n")
    command = ("show", "configs/demo.py", f"model.pooling={folder / 'own.py'}:mine")
    plain, debug = invoke(*command), invoke("--debug", *command)
    for result in (plain, debug):
        assert result.exit_code == 1
        assert f"Error: {folder / 'own.py'}, line 2, in mine: ZeroDivisionError" in result.output
    assert "Traceback" not in plain.output
    assert "Traceback" in debug.output
    (folder / "config.py").write_text("a = 1\nb = a / 0\n")
    assert (
        f"division by zero. It arose in {folder / 'config.py'}, line 2" in invoke("show", folder / "config.py").output
    )
