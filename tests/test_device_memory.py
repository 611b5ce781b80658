"""A device without memory is a sentence, and the work directory is free for a smaller batch."""

from pathlib import Path

import jax
import pytest
from click.testing import CliRunner

from mqmha_jax import parallel
from mqmha_jax.cli import main
from mqmha_jax.config_io import with_overrides
from mqmha_jax.device_memory import describe_exhaustion, explain_exhaustion
from mqmha_jax.errors import UserError
from mqmha_jax.train.loop import train
from tests.support.tiny import tiny_config, tiny_corpus

FULL = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 80840042240 bytes.\nBy whom")
OTHER = jax.errors.JaxRuntimeError("INTERNAL: a bug")
SAID = "The memory of the device is used up (Out of memory allocating 80840042240 bytes)."


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    return tiny_corpus(tmp_path)


def refuse(*_: object) -> None:
    raise FULL


def test_only_exhausted_memory_is_explained() -> None:
    assert describe_exhaustion(FULL) == SAID
    assert describe_exhaustion(OTHER) is describe_exhaustion(ValueError("RESOURCE_EXHAUSTED: x")) is None
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"), explain_exhaustion("Need less."):
        raise OTHER


def test_a_training_names_what_needs_less_and_its_directory_is_free(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(data)
    with monkeypatch.context() as patch:
        patch.setattr(parallel, "place_batch", refuse)
        with pytest.raises(
            UserError, match=r"80840042240 bytes\)\. Lower data\.batch_size \(\d+\) .*optimizer\.accumulate"
        ):
            train(config, tmp_path / "run", progress=False)
    smaller = with_overrides(config, ["data.batch_size=8", "train.steps=1"])
    assert train(smaller, tmp_path / "run", progress=False).finished


def test_any_command_says_it_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mqmha_jax.show.describe", refuse)
    result = CliRunner().invoke(main, ["show", "demo"])
    assert SAID in result.output
    assert result.exit_code == 1
