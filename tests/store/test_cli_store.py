"""The commands enrol, identify and store, on a run as an import leaves it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mqmha_jax.cli import main
from mqmha_jax.evaluation.embeddings.training_mean import save_mean
from mqmha_jax.evaluation.scoring.decisions import Threshold, save_decision
from mqmha_jax.runs.network_run import write_network_run
from tests.support.documents import DOCS, run_document
from tests.support.tiny_audio import write_audio
from tests.support.voices import CONFIG, RATE_HZ, make_encoder, make_variables, voice


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and audio: two people at several rates, with one or two channels, and what is no speech."""
    folder = tmp_path_factory.mktemp("identify")
    write_network_run(folder / "run", CONFIG, {"imported": "x"}, make_variables(), head={})
    save_decision(folder / "run", Threshold(0.1, "list", 0.1, 5), 0)
    (folder / "anna").mkdir()
    for seed in range(2):
        soundfile.write(folder / "anna" / f"{seed}.wav", voice(1, 220, seed), RATE_HZ)
    stereo = np.stack([voice(1, 220, 4), voice(1, 220, 4)], axis=1)
    soundfile.write(folder / "stereo.wav", stereo, RATE_HZ)
    soundfile.write(folder / "telephone.wav", voice(1, 100, 5)[::2], RATE_HZ // 2)
    two = [folder / "stereo.wav", folder / "telephone.wav"]
    save_mean(folder / "run", make_encoder().embed(two).vectors.mean(axis=0), 0)  # from here, the two are opposite
    soundfile.write(folder / "short.wav", voice(0.05, 220), RATE_HZ)
    soundfile.write(folder / "silence.wav", np.zeros(RATE_HZ), RATE_HZ)
    soundfile.write(folder / "nan.wav", np.full(RATE_HZ, np.nan, np.float32), RATE_HZ, subtype="FLOAT")
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)

    def call(line: str) -> Result:
        return CliRunner().invoke(main, line.split())

    return call


def test_from_the_first_recording_to_an_answer(run, folder: Path) -> None:
    missing = run("enrol people anna anna")
    assert missing.exit_code == 2
    assert "people does not exist yet. Give the run whose network embeds: --run RUN" in missing.stderr
    enrolled = run("enrol people anna anna --run run")
    assert enrolled.exit_code == 0, enrolled.output
    assert enrolled.stdout.startswith("anna: 2 recordings, ")
    assert enrolled.stdout.endswith(" in people\n")
    assert json.loads(run("enrol people ben telephone.wav --json").stdout)["recordings"] == ["telephone.wav"]

    found = run("identify people stereo.wav silence.wav telephone.wav")
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("stereo.wav: anna (score ")
    assert "telephone.wav: ben (score " in found.stdout
    assert "silence.wav: unsure: no speech, 1.0 s of silence\n" in found.stdout

    lines = run("identify people stereo.wav anna --json --top-n 1").stdout.splitlines()
    assert [json.loads(line)["recording"] for line in lines] == ["stereo.wav", "anna/0.wav", "anna/1.wav"]
    assert [json.loads(line)["speaker"] for line in lines] == ["anna"] * 3
    assert "same speaker (score" in run("store verify people anna stereo.wav").stdout
    assert "different speakers (score" in run("store verify people ben stereo.wav").stdout
    without = run("store verify people anna stereo.wav --prior 0.1")
    assert "Warning: --prior has no effect: the run has no calibration (" in without.stderr
    without = run("identify people stereo.wav --prior 0.1 --threshold 0.5")
    assert "Warning: --prior has no effect: --threshold decides." in without.stderr

    listed = run("store list people").stdout
    assert listed.splitlines()[-1] == "2 speakers, 3 recordings; network run, step 0"
    assert len(json.loads(run("store list people --json").stdout)) == 2
    assert run("enrol others carla stereo.wav --run run").exit_code == 0
    assert run("store merge people others").stdout == "3 speakers, 4 recordings in people\n"
    assert run("store remove people anna ./anna//0.wav").stdout == "Removed. 3 speakers, 3 recordings left in people\n"
    assert run("store remove people ben").stdout == "Removed. 2 speakers, 2 recordings left in people\n"


def test_what_cannot_be_used_is_named(run) -> None:
    mixed = run("enrol mixed anna stereo.wav short.wav silence.wav nan.wav missing.wav --run run")
    assert mixed.exit_code == 1
    assert mixed.stdout.startswith("anna: 1 recording, ")
    said = mixed.stderr.splitlines()
    assert said[0].startswith("Left out: short.wav: no speech in 0.1 s of sound; a recording to enrol needs 0.5 s")
    assert said[1].startswith("Left out: silence.wav: no speech, 1.0 s of silence")
    assert said[2].startswith("Left out: nan.wav: 16000 of 16000 samples are NaN or infinite")
    assert said[3] == "Left out: missing.wav: no such file."

    found = run("identify mixed short.wav nan.wav silence.wav missing.wav")
    assert found.exit_code == 1
    assert found.stdout.splitlines() == [
        "short.wav: unsure: no speech in 0.1 s of sound",
        "silence.wav: unsure: no speech, 1.0 s of silence",
    ]
    assert len(found.stderr.splitlines()) == 2
    for line in ("enrol nothing anna silence.wav --run run", "enrol nothing anna missing.wav --run run"):
        nobody = run(line)
        assert nobody.exit_code == 1
        assert "'anna' is not enrolled: 1 recording given, none can be used." in nobody.stderr
        assert not Path("nothing").exists()


def test_folders_with_the_same_names_are_other_recordings(run, folder: Path) -> None:
    for day, seeds in (("day1", (0, 1)), ("day2", (2, 3))):
        (folder / day).mkdir()
        for call, seed in enumerate(seeds, 1):
            soundfile.write(folder / day / f"call{call}.wav", voice(1, 220, seed), RATE_HZ)
    run("enrol days zoe day1 --run run")
    both = run("enrol days zoe day2 --json")
    assert (both.exit_code, both.stderr) == (0, "")
    calls = [f"{day}/call{call}.wav" for day in ("day1", "day2") for call in (1, 2)]
    assert json.loads(both.stdout)["recordings"] == calls
    shutil.copytree(folder / "day1", folder / "copy")
    again = run("enrol days zoe day1 copy")
    assert again.stdout.startswith("zoe: 4 recordings, ")
    assert again.stderr.splitlines()[2] == (
        "Warning: copy/call1.wav: zoe has this recording already, as day1/call1.wav; it counts once."
    )
    soundfile.write(folder / "day1" / "call1.wav", voice(1, 220, 7), RATE_HZ)
    assert "this one is added as 'day1/call1.wav (2)'" in run("enrol days zoe day1").stderr
    assert "1 speaker, 4 recordings left" in run("store remove days zoe ./day2/call2.wav").stdout


def test_a_name_that_cannot_be_one_is_left_out_and_the_rest_is_used(run, folder: Path) -> None:
    (folder / "odd").mkdir()
    for name in ("good.wav", "line\nbreak.wav"):
        soundfile.write(folder / "odd" / name, voice(1, 220), RATE_HZ)
    for line in ("enrol oddities anna odd --run run", "identify oddities odd"):
        used = run(line)
        assert used.exit_code == 1
        assert used.stderr.startswith("Left out: The file name ")
        assert "line\\nbreak.wav' has the character" in used.stderr
        assert used.stdout.startswith(("anna: 1 recording, ", "good.wav: anna"))


def test_what_is_no_store_is_a_sentence(run) -> None:
    for line in (
        "identify run stereo.wav",
        "store list run",
        "store remove run anna",
        "store verify run anna stereo.wav",
    ):
        failed = run(line)
        assert failed.exit_code == 1
        assert failed.stderr == "Error: run is not a store of speakers. 'mqmha enrol' makes one.\n", line


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_network_run(tmp_path / "runs" / "mine", CONFIG, {"imported": "x"}, make_variables(), head={})
    pitches = {"anna": 220, "ben": 100, "carla": 160, "dora": 300}
    for name, pitch_hz in pitches.items():
        for call in (1, 2):
            write_audio(Path("my_speech", name, f"call{call}.wav"), voice(1, pitch_hz, call))
    write_audio(Path("meeting.wav"), np.concatenate([voice(3, 220, 5), voice(3, 100, 6)]))
    mean = make_encoder().embed([voice(1, pitch_hz) for pitch_hz in pitches.values()]).vectors.mean(axis=0)
    save_mean(tmp_path / "runs" / "mine", mean, 0)
    save_decision(tmp_path / "runs" / "mine", Threshold(0.5, "list", 0.1, 5), 0)
    said = run_document(DOCS / "identify.md", monkeypatch)
    assert "my_speech/anna/call1.wav: anna (score " in said
    assert Path("meeting.rttm").read_text().startswith("SPEAKER meeting.wav 1 0.")
    assert Path("meeting.png").stat().st_size > 1000
    assert said.splitlines()[-1] == "3 speakers, 5 recordings in people"


def test_windows_have_two_lengths_and_one_picture(run) -> None:
    for line, message in (
        ("--windows 1.5", "'1.5' is not two numbers of seconds, such as 1.5,0.75"),
        ("--rttm x", "--rttm and --plot go with --windows"),
        ("--windows 1.5,0.75 --rttm x.png --plot ./x.png", "--rttm and --plot both write x.png. Give two files."),
        ("--windows 1.5,0.75 --plot x.png anna", "--plot draws one recording, and 3 are given"),
        ("--windows 1.5,0.75 --top-n 3", "--windows answers for every window, without --top-n: this option is for"),
        ("--windows 1.5,0.75 --min-speech 0.5 --confidence 0.9", "without --confidence and --min-speech: these"),
        ("--windows nan,nan", "Windows of nan s every nan s; valid: 0.5 to 60 s"),
        ("--windows 0.75,1.5", "Windows of 0.75 s every 1.5 s; valid: 0.5 to 60 s"),
        ("--windows inf,1", "Windows of inf s every 1 s; valid: 0.5 to 60 s"),
        ("--windows 1.5,0.75 --plot foo.xyz", "foo.xyz: the ending of a picture's name gives its format; valid: ."),
        ("--windows 1.5,0.75 --plot foo", "foo: the ending of a picture's name gives its format; valid: ."),
    ):
        failed = run(f"identify nothing stereo.wav {line}")
        assert failed.exit_code == 2
        assert message in failed.stderr
