"""One file and one line make a corpus: its command comes from its function. And ``--like`` gives the features."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click
import numpy as np
import pytest
from click.testing import CliRunner

from data_prep import cli
from data_prep.corpora import CORPORA
from data_prep.corpus_commands import corpus_command, manifest_command
from data_prep.manifest import Recording
from mqmha_jax.cli import main
from mqmha_jax.config import FbankSpec
from mqmha_jax.config_io import to_dict
from mqmha_jax.data.shard_file import UtteranceFbank
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.shard_writer import write_shards
from mqmha_jax.errors import UserError
from tests.support.tiny import tiny_config

VOICES = ("--num-speakers", 1, "--sessions-per-speaker", 1, "--utterances-per-session", 2, "--seconds", 0.5, 0.6)
SERIAL = ("--num-workers", 0, "--no-progress")


def parrots(
    directory: str | Path,
    *,
    species: Literal["ara", "kea"] = "kea",
    seconds: tuple[float, float] = (1.0, 2.0),
    cage: Sequence[str] = (),
    table: str | Path | None = None,
    with_songs: bool = False,
) -> list[Recording]:
    """Parrots that speak.

    The attribute ``species`` is the ``Latin`` name.

    Args:
      directory: folder of the birds.
      species: which birds; a kea is
        the greener one.
      seconds: shortest and longest duration.
      cage: cage to read; None: all cages.
      table: their names; None: birds.csv in DIRECTORY.
      with_songs: take songs, too.

    Returns:
      Recordings.
    """
    heard.append((directory, species, seconds, cage, table, with_songs))
    return [Recording(f"p/{i}", "p", Path(directory, f"{i}.wav"), {"species": species}) for i in range(2)]


heard: list[tuple[object, ...]] = []


def run(command: click.Command, *arguments: object) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_function_becomes_a_command_with_help() -> None:
    text = run(corpus_command("parrots", parrots), "--help")
    words = " ".join(text.split())
    assert "parrots [OPTIONS] DIRECTORY OUTPUT Parrots that speak." in words
    assert "The attribute species is the Latin name." in words
    assert "DIRECTORY Folder of the birds." in words
    assert "--species [ara|kea] Which birds; a kea is the greener one. [default: kea]" in words
    assert "--seconds FLOAT... Shortest and longest duration. [default: 1.0, 2.0]" in words
    assert "--cage TEXT Cage to read. [default: (all cages)]" in words
    assert "--table PATH Their names. [default: (birds.csv in DIRECTORY)]" in words
    assert "--with-songs Take songs, too." in words
    titles = [line.rstrip(":") for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Arguments", "Corpus", "Features", "Versions", "Output", "Work", "Options"]


def test_options_reach_the_function_with_their_types(tmp_path: Path) -> None:
    command = corpus_command("parrots", parrots)
    words = ("--species", "ara", "--seconds", 3, 4, "--cage", "a", "--cage", "b", "--table", "t", "--with-songs")
    output = run(command, tmp_path, tmp_path / "out", *words, "--dry-run")
    assert heard[-1] == (tmp_path, "ara", (3.0, 4.0), ("a", "b"), Path("t"), True)
    assert "2 recordings of 1 speaker would" in output
    run(command, tmp_path, tmp_path / "out", "--dry-run")
    assert heard[-1] == (tmp_path, "kea", (1.0, 2.0), (), None, False)
    assert run(manifest_command("parrots", parrots), tmp_path, tmp_path / "list").startswith(f"{tmp_path}/list: 2")
    assert json.loads((tmp_path / "list").read_text().splitlines()[1])["utterance"] == "p/1"


def test_every_argument_of_every_corpus_is_explained() -> None:
    for name, function in CORPORA.items():
        for command in (corpus_command(name, function), manifest_command(name, function)):
            assert all(command.arguments.values()), name
            assert len(command.get_short_help_str(200)) <= 60, name
            for parameter in command.params:
                assert isinstance(parameter, click.Argument) or parameter.help, f"{name} {parameter.name}"


def test_mqmha_prep_is_the_same_program() -> None:
    lazy = main.commands["prep"]
    context = click.Context(lazy)
    assert lazy.list_commands(context) == cli.prepare.list_commands(context)
    ours, theirs = run(main, "prep", "--help"), run(cli.prepare, "--help")
    assert ours.partition("Corpora")[2] == theirs.partition("Corpora")[2]
    result = CliRunner().invoke(main, ["prep", "folder", "nowhere", "out"])
    assert result.exit_code == 1
    assert result.output == "Error: No such folder: nowhere. Give the folder that holds the audio.\n"


@pytest.mark.parametrize("arguments", [["-m", "data_prep"], ["-m", "mqmha_jax", "prep", "folder"]])
def test_help_loads_no_heavy_library(arguments: list[str]) -> None:
    program = (
        f"import runpy, sys; sys.argv = {['x', *arguments[2:], '--help']!r}\n"
        f"try: runpy.run_module({arguments[1]!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'scipy', 'librosa', 'matplotlib', 'tensorflow_datasets', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_an_interrupted_preparation_says_how_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr("data_prep.build_shards.build_shards", interrupt)
    for number, group, words in ((signal.SIGINT, cli.prepare, []), (signal.SIGTERM, main, ["prep"])):
        result = CliRunner().invoke(group, [*words, "synthetic", str(tmp_path / "out"), *map(str, VOICES)])
        assert result.exit_code == 128 + number
        assert result.output == "Stopped. Finished parts stay; run the same command again to resume.\n"


# ---- --like

SPEC = FbankSpec(num_mel_bins=24, use_energy=True, low_hz=40.0)


@pytest.fixture(params=["json", "python", "run", "shards"])
def like(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Makes each kind of thing that ``--like`` takes."""
    values = json.dumps({**to_dict(tiny_config({})), "fbank": {"num_mel_bins": 24, "use_energy": True, "low_hz": 40}})
    if request.param == "python":
        path = tmp_path / "own.py"
        path.write_text(
            "from mqmha_jax.config import Config, FbankSpec\n"
            "CONFIG = Config(fbank=FbankSpec(num_mel_bins=24, use_energy=True, low_hz=40.0))\n"
        )
        return path
    path = tmp_path / "like"
    if request.param == "shards":
        rows = [UtteranceFbank("u", "s", np.zeros((5, 25), np.float16))]
        write_shards(path, rows, spec=SPEC, provenance={})
        return path
    if request.param == "run":
        path.mkdir()
        (path / "config.json").write_text(values)
        return path
    path = path.with_suffix(".json")
    path.write_text(values)
    return path


def test_like_copies_the_features(like: Path, tmp_path: Path) -> None:
    run(cli.prepare, "synthetic", tmp_path / "out", *VOICES, *SERIAL, "--like", like, "--num-mel-bins", 24)
    assert open_shards(tmp_path / "out").spec == SPEC
    with pytest.raises(UserError, match=r"--low-hz 20.0 contradicts --like .*, which has 40.0"):
        run(cli.prepare, "synthetic", tmp_path / "other", *VOICES, "--like", like, "--low-hz", 20)
    assert not (tmp_path / "other").exists()


def test_like_refuses_features_that_no_audio_has(tmp_path: Path) -> None:
    values = {**to_dict(tiny_config({})), "fbank": {"frame_shift_ms": 0}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(values))
    with pytest.raises(
        UserError, match=r"run/config\.json: Invalid value for fbank\.frame_shift_ms=0: .* greater than 0"
    ):
        run(cli.prepare, "synthetic", tmp_path / "out", *VOICES, *SERIAL, "--like", tmp_path / "run")
    assert not (tmp_path / "out").exists()


def test_like_refuses_paths_without_features(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path, rf"--like {tmp_path}: the folder holds neither shards nor a run\. Give a configuration"),
        ("none", "Unknown configuration 'none'"),
    ):
        with pytest.raises(UserError, match=message):
            run(cli.prepare, "synthetic", tmp_path / "out", *VOICES, "--like", path)


# ---- impossible numbers


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-mel-bins", 0], "--num-mel-bins 0: input should be greater than 0."),
        (["--sample-rate-hz", -5], "--sample-rate-hz -5: input should be greater than 0."),
        (["--preemphasis", 2], "--preemphasis 2.0: input should be less than or equal to 1."),
        (["--frame-shift-ms", 0], "--frame-shift-ms 0.0: input should be greater than 0."),
        (
            ["--frame-shift-ms", 0.01],
            "fbank.frame_shift_ms=0.01 are 400 and 0.16 samples at 16000 Hz; at least 2 and 1",
        ),
        (["--frame-length-ms", "nan"], "--frame-length-ms nan"),
        (["--num-mel-bins", 4000], "fbank.num_mel_bins=4000 is too many"),
        (["--low-hz", 9000], "give mel bands from 9000 to 8000 Hz"),
        (["--speeds", "1.0,nan"], "give different speeds from 0.25 to 4"),
        (["--speeds", "1.0,1e-9"], "give different speeds from 0.25 to 4"),
        (["--voice-seed", -1], "--voice-seed is -1; it must be at least 0"),
        (["--first-speaker", -3], "--first-speaker is -3; it must be at least 0"),
        (["--seconds", 1, "inf"], "give the shortest and the longest duration"),
    ],
)
def test_an_impossible_number_gets_a_sentence(words: list[object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        run(cli.prepare, "synthetic", tmp_path / "out", *VOICES, *SERIAL, *words)
    assert message in str(refused.value)
    assert "rejected" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--shard-megabytes", 0], ["--shard-megabytes", "nan"], ["--timeout", "inf"]])
def test_a_number_out_of_range_is_a_usage_error(words: list[object], tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.prepare, ["synthetic", str(tmp_path / "out"), *map(str, words)])
    assert result.exit_code == 2
    assert f"Invalid value for '{words[0]}'" in result.output
