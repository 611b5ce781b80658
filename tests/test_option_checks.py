"""Options that cannot be meant: refused by a sentence before the work, on the command line and in Python."""

import os
from collections.abc import Iterator
from pathlib import Path

import click
import jax
import jaxtyping
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mqmha_jax import UserError, atomic
from mqmha_jax.cli import main
from mqmha_jax.config import Config, DataConfig
from mqmha_jax.evaluation.dev_list import open_dev_list
from mqmha_jax.interop.export_run import export_program, export_safetensors, export_wespeaker
from mqmha_jax.runs.average import Towards, average_checkpoints
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.network_run import write_network_run
from mqmha_jax.runs.state import initial_network
from mqmha_jax.store.speaker_store import SpeakerStore
from tests.support.tiny_run import TINY, voice, write_tiny_run
from tests.support.voices import make_encoder
from tests.support.voices import voice as make_voice


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


def list_number_options() -> Iterator[tuple[str, click.Option]]:
    groups = {"": main, "store ": main.commands["store"]}
    for prefix, group in groups.items():
        for name, command in group.commands.items():
            for option in command.params:
                if isinstance(option.type, (click.FloatRange, click.types.FloatParamType)):
                    yield f"{prefix}{name} --{option.name}", option


def test_numbers_that_are_not_finite_are_refused_by_every_command() -> None:
    found = dict(list_number_options())
    assert {"verify --prior", "store verify --threshold", "serve --max_mib", "evaluate --shrinkage"} <= {*found}
    for name, option in found.items():
        for text in ("nan", "inf", "-inf", "1e400"):
            with pytest.raises(click.BadParameter, match=r"is not a finite number|is not in the range"):
                print(name, option.type.convert(text, option, None))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verify", "run", "a", "b", "--prior", "nan"], "nan is not a finite number"),
        (["verify", "run", "a", "b", "--confidence", 1], "1.0 is not in the range 0.5<=x<1"),
        (["export", "run", "--output", "x.onnx", "--seconds", "nan"], "nan is not a finite number"),
        (["export", "run", "--output", "x.onnx", "--seconds", "long"], "'long' is neither a number nor 'any'"),
        (["export", "run", "--output", "x.onnx", "--batch", 0], "0 is not in the range x>=1"),
        (["export", "run", "--output", "net.foo"], "valid: .onnx, .stablehlo, .safetensors, or a directory without an"),
        (["evaluate", "run", "--costs", "1e400", 1], "1e400 is not a finite number"),
        (["evaluate", "run", "--seed", -1], "-1 is not in the range 0<=x<=2147483647"),
        (["compare", "a", "b", "--seed", -1], "-1 is not in the range 0<=x<=2147483647"),
        (["make-trials", "a", "b", "--seed", -1], "-1 is not in the range 0<=x<=2147483647"),
        (["show", "demo", "--speakers", 0], "0 is not in the range x>=1"),
        (["average", "run", "--output", "o", "--share", "nan", "--towards", "r"], "nan is not a finite number"),
        (["average", "run", "--output", "o", "--share", 0.5], "--share is the weight of another run's network"),
        (["verify", "--work", "X", "a", "b"], "WORKDIR is given without a name: main verify WORKDIR FIRST SECOND"),
        (["verify", "--priro", 0.5, "run", "a", "b"], "Did you mean --prior?"),
    ],
)
def test_an_option_that_cannot_be_meant_is_named(
    words: list[object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = invoke(*words)
    assert code == 2
    assert message in text.replace("'--prior'", "--prior")
    assert "--work. Did you mean" not in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "train.steps=99999999999999999999999",
            "train.steps=99999999999999999999999: .* less than or equal to 2147",
        ),
        ("train.seed=2147483648", "train.seed=2147483648: .* less than or equal to 2147483647"),
        ("optimizer.learning_rate=Infinity", "learning_rate must be a number of at least 0, but it is inf"),
        ("learning_rate=0.1", "names an option without its section; write optimizer.learning_rate=0.1"),
        ("learning_rte=0.1", "write optimizer.learning_rate=0.1"),
        ("name=x", "write loss.name=x or optimizer.name=x"),
        ("trian.steps=4", "Unknown section 'trian'. Did you mean 'train'"),
    ],
)
def test_an_override_that_cannot_be_meant_is_named(override: str, message: str) -> None:
    from mqmha_jax.config_io import with_overrides

    with pytest.raises(UserError, match=message):
        with_overrides(TINY, [override])


@pytest.mark.usefixtures("without_checkers")
def test_a_dev_list_needs_its_shards() -> None:
    """Training calls this first; the shards of the training set are not looked at."""
    assert open_dev_list(DataConfig(), None) is None  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"data.dev_trials=LIST has no shards: set data.dev to the shards with its"):
        open_dev_list(DataConfig(dev_trials="LIST"), None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_run(tmp_path_factory.mktemp("tiny") / "run")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network computes NaN."""
    from mqmha_jax.models.speaker_net import build_speaker_net

    network = initial_network(TINY, build_speaker_net(TINY.model), jax.numpy.int32(0))
    network = {**network, "params": jax.tree.map(lambda x: x * np.nan, network["params"])}
    workdir = tmp_path_factory.mktemp("broken") / "run"
    write_network_run(workdir, TINY, {"file": "none"}, network, head={})
    return workdir


def test_a_network_that_is_not_finite_is_neither_averaged_nor_exported(broken: Path, tmp_path: Path) -> None:
    for work in (
        lambda: average_checkpoints(broken, 1, tmp_path / "out"),
        lambda: export_safetensors(broken, tmp_path / "file"),
        lambda: export_wespeaker(broken, tmp_path / "folder"),
        lambda: export_program(broken, tmp_path / "file", file_format="stablehlo"),
    ):
        with pytest.raises(UserError, match=r"is not finite: params/.* holds NaN or infinity"):
            work()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_embeddings_that_are_not_finite_are_left_out(broken: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(0, 0), 16_000)
    code, text = invoke("embed", broken, tmp_path / "a.wav", "--output", tmp_path / "e.npz")
    assert code == 1
    assert f"a.wav: its embedding is not finite, because the network ({broken}, step 0) computes NaN" in text
    assert not (tmp_path / "e.npz").exists()
    code, text = invoke("verify", broken, tmp_path / "a.wav", tmp_path / "a.wav")
    assert code == 1
    assert "a.wav: its embedding is not finite" in text


def test_a_share_and_a_run_of_other_sizes_are_refused_and_other_options_named(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from mqmha_jax.config_io import with_overrides
    from mqmha_jax.models.speaker_net import build_speaker_net

    def network_of(config: Config) -> dict:
        return initial_network(config, build_speaker_net(config.model), jax.numpy.int32(0))

    for share in (float("nan"), 1.5):
        with pytest.raises(UserError, match=f"share is {share}; valid: a number of at least 0 and of at most 1"):
            average_checkpoints(run, 1, tmp_path / "out", Towards(run, share))
    other = with_overrides(TINY, ["model.encoder.final_channels=8"])
    write_network_run(tmp_path / "other", other, {"file": "none"}, network_of(other), head={})
    with pytest.raises(UserError, match=r"has another architecture: .* only move towards one of the same architecture"):
        average_checkpoints(run, 1, tmp_path / "out", Towards(tmp_path / "other", 0.5))
    alike = with_overrides(TINY, ["model.encoder.dilations=[2]", "fbank.window=povey"])
    write_network_run(tmp_path / "alike", alike, {"file": "none"}, network_of(alike), head={})
    average_checkpoints(run, 1, tmp_path / "warned", Towards(tmp_path / "alike", 0.5))
    average_checkpoints(run, 1, tmp_path / "silent", Towards(run, 0.5))
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"of {tmp_path / 'alike'} fit in shape, but were trained with other options or code" in warning
    assert "model.encoder.dilations: (2,) -> (1,); fbank.window: povey -> hamming." in warning
    code, text = invoke("average", run, "--last", 1, "--output", tmp_path / "out")
    assert code == 0, text
    assert text == f"The checkpoint of step 0 is in {tmp_path / 'out'}"


@pytest.mark.usefixtures("without_checkers")
def test_a_step_is_an_integer(run: Path) -> None:
    with Checkpoints(run) as checkpoints:
        for step in (0.0, True, "0"):
            with pytest.raises(UserError, match=r"valid: the number of a step such as 0, \"best\", or None"):
                checkpoints.read(step, lambda step: step)  # type: ignore[arg-type]
        assert checkpoints.read(np.int64(0), lambda step: step) == 0  # type: ignore[arg-type]
    code, text = invoke("export", run, "--output", run.parent / "net.safetensors", "--step", "best")
    assert code == 1
    assert "--step best: no checkpoint in" in text


def test_an_option_that_contradicts_an_exported_file_is_refused(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    export_safetensors(run, file)
    for words, message in (
        (["--num-mel-bins", 40], "was trained with fbank.num_mel_bins=20. Leave out --num-mel-bins 40."),
        (["--window", "povey"], "was trained with fbank.window=hamming. Leave out --window povey."),
        (["--sample-rate-hz", -5], "was trained with fbank.sample_rate_hz=16000. Leave out --sample-rate-hz -5."),
        (["--family", "X"], "holds its own network; leave out --family X."),
    ):
        code, text = invoke("import", file, "--workdir", tmp_path / "imported", *words)
        assert code == 1
        assert message in text
    code, text = invoke("import", file, "--workdir", tmp_path / "imported", "--num-mel-bins", 20)
    assert code == 0, text


def test_a_threshold_that_cannot_be_kept_is_refused_before_the_work(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, permissions: int) -> int:
        if Path(path).parent == run:
            raise PermissionError(13, os.strerror(13), str(path))
        return opened(path, permissions)

    opened = atomic._open_new_file
    monkeypatch.setattr(atomic, "_open_new_file", refuse)
    words = ["--trials", tmp_path / "none", "--data", tmp_path / "none", "--output", tmp_path / "out"]
    code, text = invoke("evaluate", run, "--save-threshold", *words)
    assert code == 1
    assert "--save-threshold keeps the threshold in the run: " in text
    assert "cannot be written (Permission denied)" in text


@pytest.fixture
def without_checkers() -> Iterator[None]:
    """As users call the functions, without the tests' checker of types."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("without_checkers")
def test_arguments_of_other_types_are_sentences(tmp_path: Path) -> None:
    encoder = make_encoder(threshold=0.5)
    store = SpeakerStore.create(tmp_path / "store", encoder)
    sound = make_voice(0.7, 100)
    recording = r"of type \w+; valid: a path, or a NumPy array of samples \[n\]"
    for work, message in (
        (lambda: encoder.verify(1, 2), f"A recording is 1, {recording}"),
        (lambda: encoder.embed(None), f"A recording is None, {recording}"),
        (lambda: encoder.embed([3]), f"A recording is 3, {recording}"),
        (lambda: store.enrol("ada", 3), f"A recording is 3, {recording}"),
        (lambda: store.enrol(3, sound), "name is 3; valid: text"),
        (lambda: store.identify(3), f"A recording is 3, {recording}"),
        (lambda: store.track(3), f"A recording is 3, {recording}"),
        (lambda: store.track(sound, window_s="1"), "window_s is '1'; valid: a number"),
        (
            lambda: encoder.verify(sound, sound, confidence=7),
            "confidence is 7; valid: a number of at least 0.5 and",
        ),
        (lambda: encoder.verify(sound, sound, prior=float("nan")), "prior is nan; valid: a number above 0 and below 1"),
        (lambda: encoder.verify(sound, sound, min_speech_s=float("inf")), "min_speech_s is inf; valid: a number of at"),
        (lambda: store.identify(sound, threshold=float("nan")), "threshold is nan; valid: a number"),
        (lambda: store.identify(sound, min_speech_s=float("nan")), "min_speech_s is nan; valid: a number"),
        (lambda: store.track(sound, threshold=float("nan")), "threshold is nan; valid: a number"),
        (lambda: store.identify(sound, top_n="many"), "top_n is 'many'; valid: an integer above 0"),
    ):
        with pytest.raises(UserError, match=message):
            work()
