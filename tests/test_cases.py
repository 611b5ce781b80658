"""Small inputs that once went wrong, from ../shared/cases: README says what should happen, make.py makes the input.

They lie beside the project only where the project is developed; elsewhere these tests are skipped.
"""

import contextlib
import io
import json
import runpy
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mqmha_jax.cli import main
from mqmha_jax.config_io import load_config, to_dict
from mqmha_jax.data.embedding_files import read_embeddings
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import read_audio
from mqmha_jax.parallel import device_mesh
from mqmha_jax.runs.run_files import CONFIG_NAME
from mqmha_jax.train.build import build_training
from mqmha_jax.train.loop import train
from tests.conftest import SHARED
from tests.support.tiny import tiny_config, tiny_corpus, write_tiny_shards, write_tiny_trials

RATE = 16_000

pytestmark = pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="needs ../shared/cases")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps, evaluated."""
    root = tmp_path_factory.mktemp("cases")
    train(tiny_config(tiny_corpus(root)), root / "run", progress=False)
    invoke("evaluate", root / "run", "--replicates", 0)
    return root / "run"


def make_case(name: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # it prints the commands to try
        warnings.simplefilter("ignore", ResourceWarning)  # and leaves files open
        runpy.run_path(str(SHARED / "cases" / name / "make.py"))


def invoke(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_every_case_has_a_test() -> None:
    cases = {path.name for path in (SHARED / "cases").iterdir()}
    assert cases
    assert cases <= {name.removeprefix("test_") for name in globals()}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_blanks_in_ids(run: Path) -> None:
    make_case("blanks_in_ids")
    invoke("prep", "folder", "speech", "shards", "--num-workers", 0, "--like", run)
    invoke("make-trials", "shards", "a.trials", "--per-speaker", 3)
    assert '"Speaker 0/rec ' in Path("a.trials").read_text()
    text = invoke("evaluate", run, "--data", "shards", "--trials", "a.trials", "--replicates", 0, "--output", "out")
    assert "EER %" in text


@pytest.mark.slow
def test_blanks_in_ids_through_the_demo() -> None:
    make_case("blanks_in_ids")
    tiny = ["data.batch_size=8", "train.steps=2", "train.evaluate_every=2", "data.crop_frames=24"]
    small = ["model.encoder=tdnn", "model.encoder.channels=8", "model.encoder.final_channels=8"]
    assert "EER %" in invoke("demo", "--workdir", "run", "--audio", "speech", *tiny, *small)


def test_bom_in_text_lists() -> None:
    make_case("bom_in_text_lists")
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.savez("e.npz", ids=np.array(["a", "b", "c"]), vectors=vectors)
    Path("scores").write_text("a b 0.5\na c 0.25\n", encoding="utf-8-sig")
    for trials in ("a.trials", "k.trials"):
        options = ["--trials", trials, "--metadata", "utt2spk", "--replicates", 0, "--output", trials + ".out"]
        assert "EER %" in invoke("evaluate", "--embeddings", "e.npz", "--scores", "scores", *options)
    for name in "abc":
        soundfile.write(f"{name}.wav", np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    Path("wav.scp").write_text("a a.wav\nb b.wav\nc c.wav\n", encoding="utf-8-sig")
    invoke("prep", "kaldi", ".", "shards", "--num-workers", 0)
    assert open_shards(Path("shards")).utterances == ("a", "b", "c")


def test_csv_parts_ignored() -> None:
    make_case("csv_parts_ignored")
    invoke("prep", "csv", "list.csv", "shards", "--num-workers", 0)
    assert open_shards(Path("shards")).num_frames.tolist() == [198, 198]  # 2 s, not 19.98 s


def test_embed_output(run: Path) -> None:
    make_case("embed_output")
    invoke("embed", run, "a.wav", "--output", "missing/x.npz")
    assert read_embeddings(Path("missing/x.npz")).ids == ("a.wav",)
    assert invoke("embed", run, "a.wav", "--output", "out").strip().endswith("in out")
    assert Path("out").is_file()
    assert "a.wav is given twice and embedded once" in invoke("embed", run, "a.wav", "./a.wav", "--output", "d.npz")
    assert read_embeddings(Path("d.npz")).ids == ("a.wav",)


def test_flac_unknown_total(run: Path) -> None:
    make_case("flac_unknown_total")
    np.testing.assert_array_equal(read_audio("streamed.flac"), read_audio("a.flac"))
    assert len(read_audio("streamed.flac")) == 64_000
    invoke("embed", run, "streamed.flac")


def test_folder_skips_kinds() -> None:
    make_case("folder_skips_kinds")
    Path("f/A/6.ape").write_bytes(b"MAC ")
    text = invoke("prep", "folder", "f", "shards", "--num-workers", 0, "--max-rejected", 1)
    assert set(open_shards(Path("shards")).utterances) == {"A/1.wav", "A/2.sph", "A/3.aiff", "B/1.wav", "B/4.au"}
    assert "5.amr" in text + Path("shards/rejected.jsonl").read_text()  # a header alone


def test_verify_without_speech(run: Path) -> None:
    make_case("verify_without_speech")
    assert "unsure: no speech, 4.0 s of silence in zero1.wav and no" in invoke("verify", run, "zero1.wav", "zero2.wav")
    assert "channels cancel each other" in invoke("verify", run, "antiphase.wav", "voice.wav", code=1)
    assert "unsure: no speech in 0.0 s of sound in ms30.wav" in invoke("verify", run, "ms30.wav", "voice.wav")
    assert invoke("verify", run, "antiphase.wav", "voice.wav", "--channel", 0).startswith("same speaker")
    assert "zero1.wav: no speech" in invoke("embed", run, "zero1.wav")


def test_wav_never_finished(run: Path) -> None:
    make_case("wav_never_finished")
    for name in ("crashed.wav", "counts_itself.wav"):
        np.testing.assert_array_equal(read_audio(name), read_audio("a.wav"))
        invoke("embed", run, name)


def test_batch_size_one(run: Path) -> None:
    Path("config.json").write_text((run / CONFIG_NAME).read_text())
    text = invoke("train", "config.json", "--workdir", "w", "data.batch_size=1", "train.steps=2", code=1)
    assert f"data.batch_size=1 does not divide by the {jax.device_count()} devices; choose a multiple" in text
    config = load_config("config.json", ["data.batch_size=1"])
    with pytest.raises(
        UserError, match=r"data\.batch_size=1 passes a single example .* Give data\.batch_size=2 or more"
    ):
        build_training(config, num_speakers=4, mesh=device_mesh(config.mesh, jax.devices()[:1]))


def test_diverged_at_the_end(tmp_path: Path) -> None:
    config = tiny_config(tiny_corpus(tmp_path), steps=12)
    Path("config.json").write_text(json.dumps({**to_dict(config), "fbank": {"num_mel_bins": 8}}))
    wild = ["optimizer.learning_rate=1e30", "optimizer.max_gradient_norm=1e30", "optimizer.warmup=0"]
    text = invoke("train", "config.json", "--workdir", "w", "--quiet", *wild, code=1)
    assert "not finite" in text or "non-finite" in text


def test_evaluate_overwrites_threshold(run: Path, tmp_path: Path) -> None:
    write_tiny_shards(tmp_path / "other", speakers=3, first=20, seed=2)
    write_tiny_trials(tmp_path / "other.trials", speakers=3, first=20)
    before = thresholds(run)
    assert before
    options = ["--data", "other", "--trials", "other.trials", "--replicates", 0, "--output", "elsewhere"]
    invoke("evaluate", run, *options)
    assert thresholds(run) == before
    invoke("evaluate", run, *options, "--save-threshold")
    assert thresholds(run) != before


def thresholds(run: Path) -> dict[str, bytes]:
    """The files that ``verify`` takes its threshold from."""
    return {path.name: path.read_bytes() for path in run.glob("threshold*")}
