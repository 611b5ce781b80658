"""From a corpus of audio files to shards: names, versions, bad files, and the command line."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from data_prep import cli
from data_prep.build_shards import BuildReport, build_shards
from data_prep.corpora import CORPORA
from data_prep.corpora.synthetic import synthesise
from data_prep.corpus_commands import CORPUS_COMMANDS
from data_prep.manifest import Recording
from data_prep.ordered_map import ordered_map
from data_prep.versions import NOISE_SNR_DB, VersionPlan, versions
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import read_audio
from mqmha_jax.features.fbank import extract_fbank

SPEC = FbankSpec()
RATE = SPEC.sample_rate_hz


def write_audio(path: Path, seed: int, num_samples: int = 4000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(num_samples), RATE)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers with two recordings each, in folders of different depth."""
    root = tmp_path_factory.mktemp("audio")
    for seed, name in enumerate(["a/1.wav", "a/day/2.flac", "a!/1.WAV", "a!/day/deep/3.wav"]):
        write_audio(root / name, seed)
    (root / "a" / "notes.txt").write_text("not audio")
    (root / "a" / "._1.wav").write_text("what another system leaves behind")
    return root


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of noises, which also serve as room responses."""
    root = tmp_path_factory.mktemp("noise")
    for seed in range(3):
        write_audio(root / "kind" / f"{seed}.wav", 100 + seed, 2000)
    return root


def build(recordings: list[Recording], directory: Path, **options: object) -> tuple[BuildReport, FbankShards]:
    defaults = {"spec": SPEC, "provenance": {}, "num_workers": 0, "max_rejected": 0, "progress": False}
    report = build_shards(recordings, directory, **(defaults | options))  # type: ignore[arg-type]
    return report, open_shards(directory)


def checksums(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


# ---- corpora


def test_a_folder_names_utterances_by_path_and_speakers_by_folder(audio: Path) -> None:
    recordings = CORPORA["folder"](audio)
    assert [(r.utterance, r.speaker) for r in recordings] == [
        ("a!/1.WAV", "a!"),
        ("a!/day/deep/3.wav", "a!"),
        ("a/1.wav", "a"),
        ("a/day/2.flac", "a"),
    ]
    assert all(r.source == audio / r.utterance for r in recordings)


def test_links_in_a_folder_are_followed(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(audio / "a")
    assert [r.utterance for r in CORPORA["folder"](tmp_path)] == ["linked/1.wav", "linked/day/2.flac"]


def test_a_folder_without_speakers_or_audio_is_refused(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1.wav lies next to the speakers' folders"):
        CORPORA["folder"](audio / "a")
    with pytest.raises(UserError, match=r"No audio below .*looked for files ending in .*\.flac"):
        CORPORA["folder"](tmp_path)
    with pytest.raises(UserError, match=r"No such folder: .*nowhere"):
        CORPORA["folder"](tmp_path / "nowhere")


def test_a_csv_list_gives_paths_speakers_and_attributes(audio: Path, tmp_path: Path) -> None:
    text = '\ufeffspeaker,path,room\nx,a/1.wav,"kitchen, left"\ny,a!/1.WAV,\n'
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    assert CORPORA["csv"](tmp_path / "list.csv", audio) == [
        Recording("a/1.wav", "x", audio / "a/1.wav", {"room": "kitchen, left"}),
        Recording("a!/1.WAV", "y", audio / "a!/1.WAV", {"room": ""}),
    ]
    assert [r.source for r in CORPORA["csv"](tmp_path / "list.csv")] == [tmp_path / "a/1.wav", tmp_path / "a!/1.WAV"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,speaker\na,b\n", r"list.csv:1: no column path; the header is file,speaker"),
        ("", r"list.csv:1: no column path and speaker; the header is empty"),
        ("path,speaker\n", "list.csv lists no recordings"),
        ("path,speaker\na,b\nc\n", "list.csv:3: no speaker"),
        ("path,speaker\n,b\n", "list.csv:2: no path"),
        ("path,speaker\na,b,c\n", r"list.csv:2: more values than the header has columns \(2\)"),
        ("path,speaker\na,b\nc,d\na,b\n", "list.csv:4: utterance 'a' was listed before, in line 2"),
        ("path,speaker\n\xff,b\n", "list.csv: not a CSV file in UTF-8"),
    ],
)
def test_a_bad_csv_list_is_refused_by_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=message):
        CORPORA["csv"](tmp_path / "list.csv")


def test_a_missing_list_and_a_missing_root_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No such list: .*list.csv"):
        CORPORA["csv"](tmp_path / "list.csv")
    (tmp_path / "list.csv").write_text("path,speaker\na,b\n")
    with pytest.raises(UserError, match=r"No such folder: .*elsewhere. --root is what"):
        CORPORA["csv"](tmp_path / "list.csv", tmp_path / "elsewhere")


def test_synthetic_recordings_have_the_names_and_samples_of_the_voices() -> None:
    recordings = CORPORA["synthetic"](
        num_speakers=2,
        sessions_per_speaker=1,
        utterances_per_session=2,
        seconds=(0.5, 0.6),
        voice_seed=7,
        first_speaker=3,
    )
    made = [synthesise(speaker, 0, number, seed=7, seconds=(0.5, 0.6)) for speaker in (3, 4) for number in (0, 1)]
    assert [(r.utterance, r.speaker, r.attributes) for r in recordings] == [
        (voice.utterance, voice.speaker, {"session": voice.session}) for voice in made
    ]
    np.testing.assert_array_equal(recordings[3].waveform(RATE), made[3].waveform)
    assert len(recordings[3].waveform(8000)) == pytest.approx(len(made[3].waveform) / 2, abs=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_speakers": 0}, "--num-speakers is 0; it must be at least 1"),
        ({"seconds": (2.0, 1.0)}, "--seconds 2 1: give the shortest and the longest"),
    ],
)
def test_an_impossible_synthetic_corpus_is_refused(changes: dict[str, object], message: str) -> None:
    options = {"num_speakers": 1, "sessions_per_speaker": 1, "utterances_per_session": 1, "seconds": (1.0, 2.0)}
    with pytest.raises(UserError, match=message):
        CORPORA["synthetic"](**(options | changes))


# ---- building


def test_shards_hold_the_filterbank_of_every_file(audio: Path, tmp_path: Path) -> None:
    recordings = CORPORA["folder"](audio)
    report, shards = build(recordings, tmp_path / "shards", provenance={"corpus": "folder"})
    assert shards.utterances == tuple(r.utterance for r in recordings)
    assert shards.speakers == ("a", "a!")
    assert shards.provenance == {"corpus": "folder"}
    assert (tmp_path / "shards" / "rejected.jsonl").read_text() == ""
    for index, recording in enumerate(recordings):
        reference = extract_fbank(read_audio(recording.source, RATE), SPEC).astype(np.float16)
        np.testing.assert_array_equal(shards.fbank(index), reference)
    assert report._replace(doubtful=()) == BuildReport(4, 4, 2, int(shards.num_frames.sum()), ())
    assert [finding.utterance for finding in report.doubtful] == [r.utterance for r in recordings], "it is noise"


def with_bad_files(audio: Path, directory: Path) -> list[Recording]:
    """The corpus with a text file, a clip of 20 ms and a missing file in between."""
    (directory / "text.wav").write_text("this is no audio")
    write_audio(directory / "short.wav", 0, RATE // 50)
    bad = [Recording(name, "bad", directory / name) for name in ("text.wav", "short.wav", "missing.wav")]
    good = CORPORA["folder"](audio)
    return [good[0], bad[0], good[1], bad[1], bad[2], *good[2:]]


def test_bad_files_are_left_out_and_listed(audio: Path, tmp_path: Path) -> None:
    report, shards = build(with_bad_files(audio, tmp_path), tmp_path / "shards", max_rejected=3)
    assert shards.utterances == tuple(r.utterance for r in CORPORA["folder"](audio))
    lines = [json.loads(line) for line in (tmp_path / "shards" / "rejected.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [str(tmp_path / f"{name}.wav") for name in ("text", "short", "missing")]
    for line, reason in zip(lines, ("cannot be decoded as audio", "20 ms long", "no such file"), strict=True):
        assert reason in line["reason"]
    assert [rejection._asdict() for rejection in report.rejected] == lines


def test_too_many_bad_files_end_the_job_with_a_summary(audio: Path, tmp_path: Path) -> None:
    recordings = with_bad_files(audio, tmp_path)
    with pytest.raises(
        UserError, match=r"(?s)Rejected: 3 recordings .*--max-rejected allows 1:.*text.wav.*20 ms.*--retry-rejected"
    ):
        build(recordings, tmp_path / "shards", max_rejected=1)
    with pytest.raises(UserError, match=r"(?s)Rejected: 1 recording \(0 utterances made.*no such file"):
        build([recordings[4]], tmp_path / "other", max_rejected=9)
    with pytest.raises(UserError, match="The corpus lists no recordings"):
        build([], tmp_path / "third")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["other.partial", "shards.partial"]
    report, _ = build(recordings, tmp_path / "shards", max_rejected=3)  # finished parts are kept
    assert len(report.rejected) == 3
    assert not (tmp_path / "shards.partial").exists()


def test_duplicate_ids_are_refused(audio: Path, tmp_path: Path) -> None:
    recordings = CORPORA["folder"](audio)
    with pytest.raises(UserError, match=r"'a!/1.WAV' appears twice"):
        build([*recordings, recordings[0]], tmp_path / "shards")


# ---- versions


def plan(noise: Path, /, **changes: object) -> VersionPlan:
    everything = {
        "names": ("clean", "noise", "reverb", "telephone"),
        "speeds": (1.0, 0.9, 1.1),
        "noise": noise,
        "room_responses": noise,
    }
    return VersionPlan(**(everything | changes))  # type: ignore[arg-type]


def waveforms(recording: Recording, plan: VersionPlan) -> dict[str, np.ndarray]:
    return {version.utterance: version.waveform for version in versions(recording, recording.waveform(RATE), plan)}


def test_speeds_make_classes_after_those_of_speed_one(audio: Path, noise: Path, tmp_path: Path) -> None:
    report, shards = build(CORPORA["folder"](audio), tmp_path / "shards", plan=plan(noise))
    # Sorted by name, "a!#speed0.9" would come before "a#speed0.9".
    assert shards.speakers == ("a", "a!", "a#speed0.9", "a!#speed0.9", "a#speed1.1", "a!#speed1.1")
    assert report.num_utterances == len(shards) == 4 * 3 * 4
    for index, utterance in enumerate(shards.utterances):
        speed, version = shards.attributes["speed"][index], shards.attributes["version"][index]
        name = utterance.partition("#")[0]
        assert utterance == name + {"1": ""}.get(speed, f"#speed{speed}") + {"clean": ""}.get(version, f"#{version}")
        assert shards.speaker[index] == ["1", "0.9", "1.1"].index(speed) * 2 + ["a", "a!"].index(name.split("/")[0])


def test_a_copy_depends_only_on_the_seed_and_its_id(audio: Path, noise: Path) -> None:
    first, second, *_ = CORPORA["folder"](audio)
    everything = waveforms(first, plan(noise))
    alone = waveforms(first, plan(noise, names=("noise",), speeds=(1.0,)))
    assert list(alone) == ["a!/1.WAV#noise"]
    np.testing.assert_array_equal(alone["a!/1.WAV#noise"], everything["a!/1.WAV#noise"])
    for name in ("noise", "reverb", "telephone"):
        other_seed = waveforms(first, plan(noise, seed=1))[f"a!/1.WAV#{name}"]
        assert not np.array_equal(other_seed, everything[f"a!/1.WAV#{name}"])
    renamed = waveforms(first._replace(utterance=second.utterance), plan(noise))
    assert not np.array_equal(renamed[f"{second.utterance}#noise"], everything["a!/1.WAV#noise"])


def test_versions_match_their_names(audio: Path, noise: Path) -> None:
    recording = CORPORA["folder"](audio)[0]
    made = waveforms(recording, plan(noise))
    clean = made["a!/1.WAV"]
    np.testing.assert_array_equal(clean, recording.waveform(RATE))
    snr_db = 10 * np.log10(np.mean(clean**2) / np.mean((made["a!/1.WAV#noise"] - clean) ** 2))
    assert NOISE_SNR_DB[0] - 0.1 < snr_db < NOISE_SNR_DB[1] + 0.1
    assert len(made["a!/1.WAV#speed0.9"]) == pytest.approx(len(clean) / 0.9, abs=2)
    power = np.abs(np.fft.rfft(made["a!/1.WAV#telephone"])) ** 2
    above_4_khz = np.fft.rfftfreq(len(clean), 1 / RATE) > 4100
    assert power[above_4_khz].sum() < 0.01 * power.sum()
    assert np.mean(made["a!/1.WAV#reverb"] ** 2) == pytest.approx(np.mean(clean**2), rel=1e-3)
    assert np.abs(np.corrcoef(made["a!/1.WAV#reverb"], clean)[0, 1]) < 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("clean", "nose")}, "Unknown version 'nose'. Did you mean 'noise'?"),
        ({"names": ("clean", "clean")}, "name each version once"),
        ({"speeds": (0.9, 1.0)}, "1.0 first"),
        ({"speeds": (1.0, 0.9, 0.9000001)}, r"speeds=1\.0,0\.9,0\.9000001: give different .* \(six digits count\)"),
        ({"speeds": (1.0, 1.0)}, "different speeds from 0.25 to 4"),
        ({"speeds": (1.0, -1.0)}, "different speeds from 0.25 to 4"),
        ({"noise": None}, "version 'noise' needs a folder of audio files: give --noise DIR"),
        ({"room_responses": None}, "version 'reverb' needs .* give --room-responses DIR"),
        ({"noise": Path("nowhere")}, "No such folder: nowhere"),
    ],
)
def test_an_impossible_plan_is_refused(changes: dict[str, object], message: str, noise: Path) -> None:
    with pytest.raises(UserError, match=message):
        plan(noise, **changes)


def test_a_broken_noise_ends_the_job(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "broken.wav").write_text("this is no audio")
    with pytest.raises(UserError, match=r"broken.wav: cannot be decoded"):
        build(
            CORPORA["folder"](audio),
            tmp_path / "shards",
            plan=VersionPlan(names=("noise",), noise=tmp_path / "noise"),
            max_rejected=9,
        )
    assert not list(tmp_path.glob("*shards*"))


def test_a_column_with_a_name_of_ours_is_refused(audio: Path) -> None:
    recording = CORPORA["folder"](audio)[0]._replace(attributes={"speed": "walking"})
    with pytest.raises(UserError, match=r"'a!/1.WAV' has a column 'speed'.*Rename the column"):
        list(versions(recording, recording.waveform(RATE), VersionPlan()))


# ---- worker processes


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte(audio: Path, noise: Path, tmp_path: Path) -> None:
    recordings = with_bad_files(audio, tmp_path) + CORPORA["synthetic"](
        num_speakers=2, sessions_per_speaker=1, utterances_per_session=2, seconds=(0.5, 2.0)
    )
    for num_workers in (0, 1, 2):
        directory = tmp_path / f"shards{num_workers}"
        build(recordings, directory, plan=plan(noise), num_workers=num_workers, max_rejected=3)
        assert checksums(directory) == checksums(tmp_path / "shards0")


def die(_: int) -> None:
    import os

    os._exit(1)


@pytest.mark.slow
def test_a_dead_worker_is_reported() -> None:
    with pytest.raises(UserError, match=r"A worker process died.*--num-workers 1"):
        list(ordered_map(die, range(3), 2))


def test_a_script_whose_import_starts_the_work_is_explained(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from data_prep.ordered_map import ordered_map\nlist(ordered_map(abs, [1], 1))\n"
    )
    result = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True)
    assert "No worker process could start. Each one imports your script again" in result.stderr
    assert "most likely because memory ran out" not in result.stderr


# ---- command line


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.prepare, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_folder_command(audio: Path, noise: Path, tmp_path: Path) -> None:
    output = run(
        *("folder", audio, tmp_path / "shards", "--num-workers", 0, "--no-progress", "--num-mel-bins", 40),
        *("--use-energy", "--versions", "clean,noise", "--noise", noise, "--speeds", "1.0,1.1", "--seed", 5),
    )
    assert "16 utterances of 4 speakers" in output
    assert "from 4 recordings; 0 rejected" in output
    shards = open_shards(tmp_path / "shards")
    assert shards.spec == FbankSpec(num_mel_bins=40, use_energy=True)
    assert shards.provenance["corpus"] == "folder"
    assert shards.provenance["arguments"]["speeds"] == [1.0, 1.1]
    assert shards.provenance["arguments"]["seed"] == 5
    assert "num_workers" not in shards.provenance["arguments"]


@pytest.mark.parametrize("option", ["--noise", "--room-responses"])
def test_a_folder_that_no_version_uses_is_refused(audio: Path, tmp_path: Path, option: str) -> None:
    with pytest.raises(UserError, match=f"{option} .* has no effect: --versions clean,telephone does not use it"):
        run("folder", audio, tmp_path / "out", "--versions", "clean,telephone", option, audio, "--num-workers", 0)
    assert not (tmp_path / "out").exists()


def test_csv_and_synthetic_commands(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,speaker,session\na/1.wav,x,one\nmissing.wav,y,two\n")
    output = run(
        *("csv", tmp_path / "list.csv", tmp_path / "shards", "--root", audio, "--num-workers", 0, "--no-progress")
    )
    assert "1 utterance of 1 speaker" in output
    assert "rejected.jsonl lists them with the reason" in output
    assert open_shards(tmp_path / "shards").attributes["session"].tolist() == ["one"]

    options = ("--num-speakers", 1, "--sessions-per-speaker", 1, "--utterances-per-session", 2, "--seconds", 0.5, 0.6)
    run("synthetic", tmp_path / "voices", *options, "--num-workers", 0, "--no-progress")
    assert open_shards(tmp_path / "voices").speakers == ("synthetic00000",)


@pytest.mark.parametrize("command", list(CORPORA))
def test_help_lists_every_option_with_meaning_and_default(command: str) -> None:
    for option in cli.prepare.commands[command].params:
        assert option.param_type_name == "argument" or option.help
    text = " ".join(run(command, "--help").split())
    assert "Mel bands" in text
    assert "[default: 80]" in text
    assert "[default: clean]" in text


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["folder", "nowhere", "out"], "Error: No such folder: nowhere. Give the folder that holds the audio.", ""),
        (
            ["folder", ".", "out", "--speeds", "fast"],
            "Error: --speeds fast: not numbers separated by commas, such as",
            "",
        ),
        (["folder", ".", "out", "--num-mel-bin", "4"], 2, "No such option '--num-mel-bin'"),
        (["foldr"], 2, "No such command 'foldr'"),
    ],
)
def test_mistakes_end_with_a_sentence_and_no_traceback(
    arguments: list[str],
    status: str | int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["data_prep", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    if isinstance(status, int):
        assert stop.value.code == status
    else:
        assert str(stop.value.code).startswith(status)
    assert message in capsys.readouterr().err


def test_no_command_replaces_another() -> None:
    for command in CORPUS_COMMANDS:
        assert cli.prepare.commands[command.name] is command
