"""verify, inspect, leaks and the options of every corpus command."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from data_prep import cli
from data_prep.build_shards import build_shards
from data_prep.inspect_shards import _draw_fbank, draw, statistics
from data_prep.leaks import leaks_of_shards
from data_prep.verify_shards import find_damage
from data_prep.versions import VersionPlan
from mqmha_jax.config import FbankSpec
from mqmha_jax.data import shard_format
from mqmha_jax.data.shard_file import UtteranceFbank
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.shard_writer import write_shards
from mqmha_jax.errors import UserError
from tests.support import faulty_disk
from tests.support.prep_jobs import ROOT, SPEC, corpus

VOICES = ("--num-speakers", 2, "--sessions-per-speaker", 1, "--utterances-per-session", 2, "--seconds", 0.5, 0.6)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.prepare, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Five utterances of one record each, in three files."""
    frames = np.random.default_rng(0).normal(8, 3, (5, 50, 4)).astype(np.float16)
    utterances = [UtteranceFbank(f"u{i}", f"s{i % 2}", frames[i], {}, {"snr_db": 10.0 * i}) for i in range(5)]
    write_shards(tmp_path / "shards", utterances, spec=FbankSpec(num_mel_bins=4), provenance={}, records_per_shard=2)
    return tmp_path / "shards"


def flip(path: Path, position: int) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 0xFF
    path.write_bytes(damaged)


def file(directory: Path, index: int) -> Path:
    return shard_format.shard_path(directory, index, 3)


# ---- verify


def test_whole_shards_verify(shards: Path) -> None:
    assert "5 utterances in 3 files, all as they were written" in run("verify", shards, "--num-workers", 0)


@pytest.mark.parametrize(
    ("harm", "messages"),
    [
        (lambda d: flip(file(d, 0), 100), ["00000-of-00003: damaged; its checksum", "'u0': Record 0 of"]),
        (lambda d: file(d, 1).unlink(), ["00001-of-00003: missing", "'u2': Record 0 of", "'u3': Record 1 of"]),
        (lambda d: file(d, 2).write_bytes(b"short"), ["has 5 bytes; ", "'u4': Record 0 of"]),
        (lambda d: flip(d / "features.json", 5), ["features.json: missing or damaged"]),
        (lambda d: (d / "dataset_info.json").unlink(), ["dataset_info.json: missing or damaged"]),
        (lambda d: flip(d / "utterances.npz", 60), ["utterances.npz: missing or damaged", "utterances.npz is missing"]),
    ],
)
def test_verify_names_all_damage_and_nothing_else(
    harm: Callable[[Path], None], messages: list[str], shards: Path
) -> None:
    harm(shards)
    problems = find_damage(shards, num_workers=0, progress=False)
    assert len(problems) == len(messages)
    for problem, message in zip(problems, messages, strict=True):
        assert message in problem
    with pytest.raises(UserError, match=rf"(?s)shards: {len(messages)} problems:.*{messages[0].split(';')[0]}"):
        run("verify", shards, "--num-workers", 0, "--no-progress")


def test_values_that_are_not_finite_are_found_despite_right_checksums(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mqmha_jax.data.shard_reader import FbankShards

    original = FbankShards.fbank
    monkeypatch.setattr(
        FbankShards, "fbank", lambda self, index: original(self, index) * np.float16(np.inf if index == 3 else 1)
    )
    assert find_damage(shards, num_workers=0, progress=False) == ["Utterance 'u3': has values that are not finite."]


@pytest.mark.parametrize(
    "change",
    [{"speakers": ["s1", "s0"]}, {"speakers": ["s0", "s0"]}, {"job": "other"}, {"created_by": "somebody"}],
    ids=["rotated speakers", "one name for all", "job", "author"],
)
def test_an_edited_description_of_the_shards_is_refused(change: dict[str, object], shards: Path) -> None:
    path = shards / "shards.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=r"shards\.json differs from what was written: its checksum does not match"):
        run("verify", shards, "--num-workers", 0, "--no-progress")


def test_verify_covers_the_lists_of_recordings(tmp_path: Path) -> None:
    options = {"spec": SPEC, "provenance": {}, "num_workers": 0, "max_rejected": 0, "progress": False}
    build_shards(corpus("noise", 2), tmp_path / "out", plan=VersionPlan(), **options)
    for name in ("doubtful.jsonl", "rejected.jsonl"):
        (tmp_path / "out" / name).write_text('{"utterance": "u0", "path": "a", "reason": "b"}\n')
    assert find_damage(tmp_path / "out", num_workers=0, progress=False) == [
        f"{tmp_path / 'out' / name}: missing or damaged." for name in ("doubtful.jsonl", "rejected.jsonl")
    ]


@pytest.mark.slow
def test_workers_find_the_same(shards: Path) -> None:
    flip(file(shards, 0), 100)
    assert find_damage(shards, num_workers=2, progress=False) == find_damage(shards, num_workers=0, progress=False)


def test_another_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a directory of shards: it has no shards.json"):
        find_damage(tmp_path, num_workers=0)


# ---- inspect


def test_inspect_counts_and_draws(tmp_path: Path) -> None:
    plan = VersionPlan(speeds=(1.0, 1.1))
    options = {"spec": SPEC, "provenance": {}, "num_workers": 0, "max_rejected": 0, "progress": False}
    build_shards(corpus("noise", 4), tmp_path / "out", plan=plan, **options)
    output = run("inspect", tmp_path / "out", "--picture", tmp_path / "picture.png")
    shards = open_shards(tmp_path / "out")
    for words in ("utterances 8", "speakers 6", f"hours {shards.num_frames.sum() / 360_000:.2f}", "speed: 1 4, 1.1 4"):
        assert words in output
    median = np.median(shards.measures["snr_db"])
    assert f"{median:.4g}" in output.split("snr_db, dB")[1].split()[:5]
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_shards_without_measures_have_statistics(tmp_path: Path) -> None:
    frames = np.zeros((5, 4), np.float16)
    write_shards(tmp_path / "out", [UtteranceFbank("u", "s", frames)], spec=FbankSpec(num_mel_bins=4), provenance={})
    assert "snr_db" not in statistics(open_shards(tmp_path / "out"))
    run("inspect", tmp_path / "out", "--picture", tmp_path / "picture.png")


# ---- leaks


def test_shared_speakers_and_utterances_are_found(shards: Path, tmp_path: Path) -> None:
    frames = np.zeros((5, 4), np.float16)
    rows = [UtteranceFbank("u1", "s1#speed0.9", frames), UtteranceFbank("other", "t", frames)]
    write_shards(tmp_path / "train", rows, spec=FbankSpec(num_mel_bins=4), provenance={})
    notes = leaks_of_shards(tmp_path / "train", shards)
    assert len(notes) == 2
    assert "1 speaker ('s1') is also in" in notes[0]
    assert "1 utterance ('u1') is also in" in notes[1]
    assert "1 speaker (" in run("leaks", tmp_path / "train", shards)
    with pytest.raises(UserError, match=r"1 speaker \('s1'\)"):
        run("leaks", tmp_path / "train", shards, "--strict")
    (tmp_path / "workdir").mkdir()
    (tmp_path / "workdir" / "speakers.txt").write_text("s0\nx\n")
    assert "1 speaker ('s0') is also in" in run("leaks", tmp_path / "workdir", shards)
    (tmp_path / "workdir" / "speakers.txt").write_text("x\n")
    assert "shares no speaker and no utterance" in run("leaks", tmp_path / "workdir", shards)
    with pytest.raises(UserError, match=r"is neither shards nor the work directory of a run"):
        run("leaks", tmp_path, shards)


def test_a_corpus_that_leaks_is_reported_and_refused_if_asked(tmp_path: Path) -> None:
    run("synthetic", tmp_path / "train", *VOICES, "--num-workers", 0, "--no-progress")
    others = ("--num-workers", 0, "--no-progress", "--not-in", tmp_path / "train")
    again = ("synthetic", tmp_path / "dev", *VOICES, *others)
    with pytest.raises(UserError, match=r"The corpus: 2 speakers .*Leave them out of one of the two"):
        run(*again, "--strict")
    assert not (tmp_path / "dev").exists()
    assert "Warning: The corpus: 2 speakers" in run(*again)
    assert "Warning" not in run("synthetic", tmp_path / "eval", *VOICES, *others, "--first-speaker", 2, "--strict")


# ---- options of a corpus command


def test_a_dry_run_says_what_a_run_would_make(tmp_path: Path) -> None:
    output = run("synthetic", tmp_path / "out", *VOICES, "--dry-run", "--shard-megabytes", 0.1)
    assert "4 recordings of 2 speakers would become 4 files" in output
    assert "--shard-range I/N" in output
    assert not list(tmp_path.iterdir())


def test_shares_and_coding_by_the_command_line(tmp_path: Path) -> None:
    command = ("synthetic", tmp_path / "out", *VOICES, "--num-workers", 0, "--no-progress", "--shard-megabytes", 0.1)
    assert "files still to make: 1" in run(*command, "--coding", "uint8", "--shard-range", "0/2")
    with pytest.raises(UserError, match=r"coding: uint8 -> float16"):
        run(*command)
    said = run(*command, "--coding", "uint8", "--shard-range", "1/2")
    assert "4 utterances of 2 speakers" in said
    assert "made before" not in said
    assert open_shards(tmp_path / "out").info.coding == "uint8"
    said = run(*command, "--coding", "uint8")
    assert "4 utterances of 2 speakers" in said, "done already"
    assert f"If any recording has changed since, delete {tmp_path / 'out'} to prepare it again." in said
    assert "--retry-rejected serves unfinished output" in said


# ---- disks


@pytest.mark.parametrize("mode", [faulty_disk.NO_SPACE, faulty_disk.IO_ERROR], ids=["full", "broken"])
def test_an_unwritable_disk_gets_a_sentence_and_no_traceback(mode: int, tmp_path: Path) -> None:
    library = faulty_disk.build(tmp_path)
    (tmp_path / "disk").mkdir()
    command = [sys.executable, "-m", "data_prep", "synthetic", str(tmp_path / "disk" / "out"), *map(str, VOICES)]
    environment = {**os.environ, "LD_PRELOAD": str(library), "FAULTS": f"{mode} {tmp_path / 'disk'}"}
    done = subprocess.run(
        [*command, "--num-workers", "0"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert ("No space left" if mode == faulty_disk.NO_SPACE else "Input/output error") in done.stderr


def test_a_disk_that_fills_up_keeps_the_finished_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from mqmha_jax.data import shard_file

    class Writer(shard_file.ArrayRecordWriter):  # type: ignore[misc]
        num_files = 0

        def __init__(self, *arguments: object) -> None:
            Writer.num_files += 1
            if Writer.num_files == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().__init__(*arguments)

    options = {"spec": SPEC, "provenance": {}, "num_workers": 0, "max_rejected": 0, "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(shard_file, "ArrayRecordWriter", Writer)
        with pytest.raises(UserError, match=r"No space left|disk is full"):
            build_shards(corpus("noise", 4), tmp_path / "out", shard_megabytes=1e-3, **options)
    assert len(list((tmp_path / "out.partial" / "parts").iterdir())) == 2
    build_shards(corpus("noise", 4), tmp_path / "out", shard_megabytes=1e-3, **options)
    assert len(open_shards(tmp_path / "out")) == 4


# ---- outputs are checked before the work


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object, **__: object) -> None:
        raise AssertionError("the output is checked first")

    for name in ("inspect_shards.statistics", "rooms.room_files"):
        monkeypatch.setattr(f"data_prep.{name}", too_late)
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "other").write_text("")
    missing = tmp_path / "no corpus"
    for words, message in (
        (("folder", missing, tmp_path / "taken"), r"taken already exists\. Choose another output directory"),
        (("folder", missing, tmp_path / "file"), r"file already exists"),
        (("folder", missing, tmp_path / "file" / "out"), r"file is a file; the output is a directory"),
        (("folder", missing, Path("/proc/x/out")), r"^/proc/x cannot be written"),
        (("manifest", "folder", missing, tmp_path), r"is a directory; give the path of a file"),
        (
            ("manifest", "folder", missing, tmp_path / "file" / "list"),
            r"cannot be written \((Not a directory|File exists)",
        ),
        (("room-table", missing, tmp_path), r"is a directory; give the path of a file"),
        (("inspect", shards, "--picture", tmp_path), r"is a directory; give the path of a file"),
    ):
        with pytest.raises(UserError, match=message):
            run(*words)


@pytest.mark.parametrize("command", [["room-table", "rooms", "rooms.npz"], ["inspect", "shards", "--picture", "x.png"]])
def test_a_negative_seed_is_refused(command: list[str]) -> None:
    result = CliRunner().invoke(cli.prepare, [*command, "--seed", "-1"])
    assert result.exit_code == 2
    assert "Invalid value for '--seed': -1 is not in the range x>=0." in result.output


def test_ids_and_folders_in_a_picture_are_no_formulas(tmp_path: Path) -> None:
    frames = np.zeros((30, 8), np.float16)
    write_shards(
        tmp_path / r"$\no$", [UtteranceFbank(r"a$\frac{b$", "s0", frames)], spec=SPEC, provenance={"corpus": "test"}
    )
    draw(open_shards(tmp_path / r"$\no$"), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1_000


def test_a_spectrogram_has_axes_in_hertz_and_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    import librosa.display

    drawn: list[dict[str, object]] = []
    monkeypatch.setattr(librosa.display, "specshow", lambda data, **settings: drawn.append({"data": data, **settings}))
    spec = FbankSpec(num_mel_bins=40, use_energy=True, low_hz=100.0, high_hz=-400.0, frame_shift_ms=20.0)
    fbank = np.full((10, 41), np.log(100.0), np.float32)
    fbank[:, 0] = 99.0  # the energy has no place on an axis of hertz
    fbank[3] = -300.0
    _draw_fbank(SimpleNamespace(set_xlabel=print), fbank, spec)
    (settings,) = drawn
    assert settings["data"].shape == (40, 10)
    assert settings["data"].max() == pytest.approx(20.0)  # dB
    assert settings["vmin"] == pytest.approx(20.0 - 80.0)
    np.testing.assert_allclose(settings["x_coords"], np.arange(10) * 0.02)
    mel = 1127 * np.log1p(np.array([100.0, 7600.0]) / 700)  # Kaldi's scale
    centres = 700 * np.expm1(np.linspace(*mel, 42)[1:-1] / 1127)
    np.testing.assert_allclose(settings["y_coords"], centres, rtol=1e-6)


def test_a_picture_has_the_given_name(shards: Path, tmp_path: Path) -> None:
    run("inspect", shards, "--picture", tmp_path / "new" / "picture")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["picture"]
    assert (tmp_path / "new" / "picture").read_bytes().startswith(b"\x89PNG")
