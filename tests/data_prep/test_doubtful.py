"""Recordings with little speech or with clipped samples: counted and listed, and rejected on request."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from data_prep import cli
from data_prep.build_shards import BuildReport, build_shards
from data_prep.corpora.synthetic import synthesise
from data_prep.findings import Finding, read_findings, write_findings
from data_prep.manifest import Recording
from data_prep.versions import VersionPlan
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.errors import UserError
from tests.support.prep_jobs import SPEC

RATE = 16_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One speaker: a voice, the same voice far too loud, silence, and noise."""
    root = tmp_path_factory.mktemp("corpus")
    voice = synthesise(0, 0, 0, seed=3, seconds=(2.0, 2.0)).waveform
    voice = voice / np.abs(voice).max() * 0.9
    files = {
        "voice": voice,
        "clipped": np.clip(20 * voice, -1, 1),
        "silence": np.zeros(RATE),
        "noise": 0.1 * np.random.default_rng(0).standard_normal(RATE),
    }
    for name, waveform in files.items():
        (root / "s").mkdir(exist_ok=True)
        soundfile.write(root / "s" / f"{name}.wav", waveform, RATE)
    return root


def build(corpus: Path, output: Path, **options: object) -> BuildReport:
    recordings = [Recording(path.stem, "s", path) for path in sorted((corpus / "s").iterdir())]
    defaults = {"spec": SPEC, "provenance": {}, "num_workers": 0, "max_rejected": 9, "progress": False}
    return build_shards(recordings, output, **(defaults | options))  # type: ignore[arg-type]


def test_recordings_with_little_speech_or_clipping_are_listed(corpus: Path, tmp_path: Path) -> None:
    report = build(corpus, tmp_path / "out")
    found = {finding.utterance: finding.reason for finding in report.doubtful}
    assert found.keys() == {"clipped", "noise", "silence"}
    assert "of the samples are clipped" in found["clipped"]
    assert found["silence"] == "no speech, 1.0 s of silence"
    assert found["noise"] == "no speech in 1.0 s of sound"
    assert report.rejected == ()
    assert read_findings(tmp_path / "out" / "doubtful.jsonl") == report.doubtful
    assert build(corpus, tmp_path / "out") == report._replace(was_made=True), "read back from the result"


def test_the_table_holds_the_speech_of_every_version(corpus: Path, tmp_path: Path) -> None:
    build(corpus, tmp_path / "out", plan=VersionPlan(speeds=(1.0, 2.0), names=("clean", "telephone")))
    shards = open_shards(tmp_path / "out")
    speech = dict(zip(shards.utterances, shards.measures["speech_seconds"], strict=True))
    assert 0.8 < speech["voice"] <= 2.0
    assert speech["voice#telephone"] == speech["voice"]
    assert speech["voice#speed2"] == pytest.approx(speech["voice"] / 2)
    assert speech["silence"] == speech["noise"] == 0


def test_doubtful_recordings_are_rejected_on_request(corpus: Path, tmp_path: Path) -> None:
    report = build(corpus, tmp_path / "out", min_speech_seconds=0.5, max_clipped_share=0.1)
    reasons = {finding.utterance: finding.reason for finding in report.rejected}
    assert reasons["silence"] == "holds no speech, 1.0 s of silence; --min-speech 0.5 rejects it."
    assert "of its samples are clipped; --max-clipped 0.1 rejects it" in reasons["clipped"]
    assert open_shards(tmp_path / "out").utterances == ("voice",)


def test_the_command_says_how_many_and_how_to_reject_them(corpus: Path, tmp_path: Path) -> None:
    words = ["--num-workers", "0", "--no-progress"]
    result = CliRunner().invoke(cli.prepare, ["folder", str(corpus), str(tmp_path / "out"), *words])
    assert "Little speech or clipping: 3 recordings; --min-speech and --max-clipped" in result.output
    assert f"{tmp_path / 'out' / 'doubtful.jsonl'} lists them" in result.output
    words += ["--min-speech", "0.5"]
    result = CliRunner().invoke(cli.prepare, ["folder", str(corpus), str(tmp_path / "strict"), *words])
    assert "from 4 recordings; 2 rejected" in result.output


def test_another_limit_is_another_job(corpus: Path, tmp_path: Path) -> None:
    build(corpus, tmp_path / "out", shard_megabytes=1e-3, shard_range="0/2")
    with pytest.raises(UserError, match=r"min_speech: 0.0 -> 0.5; max_clipped: 1.0 -> 0.2"):
        build(corpus, tmp_path / "out", shard_megabytes=1e-3, min_speech_seconds=0.5, max_clipped_share=0.2)


def test_noises_and_rooms_are_not_expected_to_speak(corpus: Path, tmp_path: Path) -> None:
    for command in ("noises", "rooms"):
        words = [command, str(corpus), str(tmp_path / command), "--num-workers", "0", "--no-progress"]
        result = CliRunner().invoke(cli.prepare, [*words, "--min-speech", "0.5"])
        assert result.exit_code == 0, result.output
        assert "4 recordings; 0 rejected" in result.output
        assert "little speech" not in result.output
        assert "speech_seconds" not in open_shards(tmp_path / command).measures


def test_names_with_any_character_read_back_from_a_list(tmp_path: Path) -> None:
    odd = (Finding("a\u2028b\x85", "c\nd\udcff", "e"), Finding("f", "g", "h"))
    write_findings(tmp_path / "list", odd)
    assert read_findings(tmp_path / "list") == odd
    assert read_findings(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"utterance": "a"}', "not an object of the texts utterance, path, reason"),
        ("[" * 100_000, "nested too deeply"),
        ('{"utterance": 1, "path": "b", "reason": "c"}', "not an object of the texts"),
        ("nonsense", "is not valid JSON"),
    ],
)
def test_a_damaged_list_gets_a_sentence(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"\n{line}\n")
    with pytest.raises(UserError, match=rf"list:2.*{message}.*prepare the shards again"):
        read_findings(tmp_path / "list")
