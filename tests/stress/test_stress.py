"""A stress test of a tiny network: resumed, deterministic, refused where it does not fit; tables, picture and page."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.trials import make_trials, write_trials
from mqmha_jax.data.lists import read_trials
from mqmha_jax.data.metadata import Metadata
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.audio_source import AudioFolder
from mqmha_jax.evaluation.metrics.bootstrap import trial_speakers
from mqmha_jax.evaluation.metrics.compare import compare_systems
from mqmha_jax.evaluation.metrics.detection import DetectionCurve, equal_error_rate
from mqmha_jax.json_file import write_sealed_json
from mqmha_jax.stress.changed_recordings import ChangedRecordings
from mqmha_jax.stress.measure import average_lists, measure_list
from mqmha_jax.stress.plan import StressPlan
from mqmha_jax.stress.report import write_stress
from mqmha_jax.stress.stress import run_stress
from mqmha_jax.stress.tables import format_stress
from mqmha_jax.types import Trials
from tests.support.tiny_run import write_tiny_run, write_voices

FEW = StressPlan(("mulaw", "noise-0db", "gsm"), replicates=30)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("stress")
    utt2spk = write_voices(home / "audio", speakers=5, takes=2)
    write_tiny_run(home / "run")
    write_trials(home / "all.trials", make_trials(utt2spk, per_speaker=20))
    some = {name: speaker for name, speaker in utt2spk.items() if speaker != "s4"}
    write_trials(home / "some.trials", make_trials(some, per_speaker=20))
    return home


def run(home: Path, directory: Path, plan: StressPlan = FEW, *, lists: tuple[str, ...] = ("all",), **options):
    paths = [home / f"{name}.trials" for name in lists]
    return run_stress(home / "run", AudioFolder(home / "audio"), paths, directory, plan, progress=False, **options)


@pytest.mark.slow
def test_a_stopped_test_is_resumed_with_the_same_numbers(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(home, tmp_path / "whole")
    embed, embedded = ChangedRecordings.embed, []

    def stop(self: ChangedRecordings, utterances: list[str], name: str, *rest: object, **options: object) -> object:
        if name == "noise-0db" and embedded == ["mulaw"]:
            embedded.append("stopped")
            raise KeyboardInterrupt
        embedded.append(name)
        return embed(self, utterances, name, *rest, **options)

    monkeypatch.setattr(ChangedRecordings, "embed", stop)
    with pytest.raises(KeyboardInterrupt):
        run(home, tmp_path / "parts")
    resumed = run(home, tmp_path / "parts")
    assert embedded == ["mulaw", "stopped", "noise-0db"]
    assert resumed == whole
    (tmp_path / "parts" / "mulaw.npz").write_bytes(b"damaged")
    assert run(home, tmp_path / "parts") == whole
    assert embedded[-1] == "mulaw"
    assert whole.absent == {"gsm": "this build of PyAV has no encoder libgsm"}


def test_another_network_list_seed_or_speakers_are_refused(home: Path, tmp_path: Path) -> None:
    run(home, tmp_path / "kept", StressPlan(("first-1s",), replicates=0))
    for plan, lists, differing in (
        (StressPlan(("first-1s",), seed=1), ("all",), "seed"),
        (StressPlan(("first-1s",)), ("some",), "recordings, speakers"),
        (StressPlan(("first-1s",), noise=home / "audio"), ("all",), "noise"),
    ):
        with pytest.raises(UserError, match=f"another stress test, which differs in {differing}\\. Give another"):
            run(home, tmp_path / "kept", plan, lists=lists)
    trials = read_trials(home / "all.trials")
    others = Metadata({name: name for name in (*trials.enrol, *trials.test)}, {})
    with pytest.raises(UserError, match="differs in speakers"):  # other voices would babble
        run(home, tmp_path / "kept", StressPlan(("first-1s",), replicates=0), known=others)
    said: list[str] = []
    with pytest.raises(UserError, match="differs in speakers"):
        run(home, tmp_path / "kept", StressPlan(("first-1s",)), known=Metadata({"elsewhere": "x"}, {}), say=said.append)
    assert any("metadata have no effect: none of their ids, such as 'elsewhere'" in sentence for sentence in said)
    write_tiny_run(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="differs in network"):
        run_stress(
            tmp_path / "other", AudioFolder(home / "audio"), [home / "all.trials"], tmp_path / "kept", progress=False
        )


def test_other_folders_are_refused_although_their_files_look_the_same(home: Path, tmp_path: Path) -> None:
    for copy in ("copy", "others"):
        shutil.copytree(home / "audio", tmp_path / copy)  # the same names, sizes and times
    lists, link = [home / "all.trials"], tmp_path / "link"
    link.symlink_to(tmp_path / "copy")

    def run(audio: Path, **folders: Path) -> None:
        plan = StressPlan(("first-1s",), replicates=0, **folders)
        run_stress(home / "run", AudioFolder(audio), lists, tmp_path / "kept", plan, progress=False)

    run(link, noise=link, rooms=link)
    run(tmp_path / "copy", noise=link, rooms=link)
    for changed in ("noise", "rooms"):
        with pytest.raises(UserError, match=rf"another stress test, which differs in {changed}\. Give another"):
            run(link, **{"noise": link, "rooms": link, changed: tmp_path / "others"})
    link.unlink()
    link.symlink_to(tmp_path / "others")
    with pytest.raises(
        UserError, match=r"another stress test, which differs in recordings, noise, rooms\. Give another"
    ):
        run(link, noise=link, rooms=link)


def test_embeddings_that_an_earlier_version_kept_are_refused(home: Path, tmp_path: Path) -> None:
    write_sealed_json(tmp_path / "setup.json", {"version": 1, "recordings": "1234"})
    with pytest.raises(
        UserError,
        match=rf"^{tmp_path} holds embeddings of a stress test by another version of this program\. Give another",
    ):
        run(home, tmp_path, StressPlan(("first-1s",), replicates=0))


def test_conditions_none_of_which_can_be_tested_are_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^None of the --conditions can be tested: rooms \(needs .*--rooms FOLDER\)\.$"
    ):
        run(home, tmp_path / "kept", StressPlan(("rooms",)))
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("content", ["silence", "text"])
@pytest.mark.parametrize("condition", ["rooms", "noise-0db"])
def test_a_room_or_noise_that_cannot_be_used_is_named(home: Path, tmp_path: Path, condition: str, content: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if content == "silence":
        soundfile.write(folder / "x.wav", np.zeros(100), 16_000)
    else:
        (folder / "x.wav").write_text("broken")
    plan = StressPlan((condition,), noise=folder, rooms=folder, replicates=0)
    with pytest.raises(UserError, match=rf"{condition}: {folder}/x\.wav.*emove .* out by --conditions\.$"):
        run(home, tmp_path / "kept", plan)


def test_the_same_noises_by_another_path_are_the_same_test(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    one, other = (
        run(home, tmp_path / "kept", StressPlan(("first-1s",), noise=noise, replicates=0))
        for noise in (home / "audio", Path("audio"))
    )
    assert one.lists == other.lists


@pytest.mark.slow
def test_on_the_test_side_alone_the_enrolment_stays_clean(home: Path, tmp_path: Path) -> None:
    both, test = (
        run(home, tmp_path / side, StressPlan(("mulaw",), side=side, replicates=0)).lists[0].conditions
        for side in ("both", "test")
    )
    assert both["clean"] == test["clean"]
    assert both["mulaw"] != test["mulaw"]


def test_rates_and_differences_are_those_of_evaluate_and_compare() -> None:
    rng = np.random.default_rng(0)
    names = [f"s{i % 8}/{i}" for i in range(40)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    trials = Trials(*zip(*pairs, strict=True), np.array([a[:2] == b[:2] for a, b in pairs]))
    utt2spk = {name: name[:2] for name in names}
    clean = rng.normal(size=len(pairs)) + 2 * trials.target
    scores = {"clean": clean, "worse": clean + rng.normal(size=len(pairs))}
    measured = measure_list("l", trials, scores, utt2spk, replicates=50, seed=3)
    row = measured.result.conditions["worse"]
    assert row.eer.value == pytest.approx(equal_error_rate(scores["worse"], trials.target))
    eer = {"eer": DetectionCurve.equal_error_rate}
    speakers = trial_speakers(trials, utt2spk)
    compared = compare_systems(
        scores["clean"][None], scores["worse"][None], trials.target, *speakers, eer, replicates=50, seed=3
    )["eer"]
    assert row.difference.value == pytest.approx(compared.difference)
    assert (row.difference.low, row.difference.high) == pytest.approx(compared.interval)
    at_clean = measured.result.conditions["clean"]
    assert at_clean.miss == pytest.approx(at_clean.false_alarm, abs=0.02)
    assert at_clean.difference == (0, 0, 0)
    mean = average_lists([measured, measured], seed=0)
    assert mean.conditions["worse"].eer.value == pytest.approx(row.eer.value)
    width, alone = (one.eer.high - one.eer.low for one in (mean.conditions["worse"], row))
    assert width < 0.9 * alone  # two lists that are resampled independently
    wrong = trials._replace(target=~trials.target)
    with pytest.raises(UserError, match="l: trial 1 is labelled target, but its sides are of two speakers"):
        measure_list("l", wrong, scores, utt2spk, replicates=0, seed=3)
    unknown = measure_list("l", trials, scores, {}, replicates=50, seed=3).result
    assert unknown.num_speakers is None
    assert unknown.conditions["worse"].eer.low is None


def test_tables_numbers_picture_and_page(home: Path, tmp_path: Path) -> None:
    test = run(home, tmp_path / "embeddings", lists=("all", "some"))
    assert test.mean is not None
    text = format_stress(test)
    assert "all: 5 target and" in text
    assert "mean over 2 lists: " in text
    assert text.endswith("gsm: left out, this build of PyAV has no encoder libgsm.")
    write_stress(tmp_path, test, title="tiny")
    numbers = json.loads((tmp_path / "stress.json").read_text())
    assert numbers["lists"]["all"]["conditions"]["mulaw"]["eer"]["value"] == test.lists[0].conditions["mulaw"].eer.value
    assert numbers["mean"]["conditions"]["noise-0db"]["difference"]["low"] is not None
    assert (tmp_path / "stress.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    page = (tmp_path / "stress.html").read_text()
    assert "<h2" in page
    assert page.count("data:image/svg+xml;base64,") == 3
    assert "<script" not in page
    assert "Mean over 2 lists" in page


def test_lists_of_recordings_that_are_not_there_are_refused(home: Path, tmp_path: Path) -> None:
    trials = read_trials(home / "all.trials")
    lines = [f"1 {trials.enrol[0]} nobody/0.wav", f"0 {trials.enrol[0]} {trials.test[1]}"]
    (tmp_path / "wrong.trials").write_text("\n".join(lines))
    folder, lists = AudioFolder(home / "audio"), [tmp_path / "wrong.trials"]
    with pytest.raises(UserError, match=r"1 of 3 recordings in the lists are not below .*: nobody/0\.wav\."):
        run_stress(home / "run", folder, lists, tmp_path / "e", FEW, progress=False)
    bad = tmp_path / os.fsdecode(b"v\xff.trials")
    bad.write_text((home / "all.trials").read_text())
    with pytest.raises(UserError, match=r"^The name of the trial list 'v\\udcff' has the character .* Rename it\.$"):
        run_stress(home / "run", folder, [home / "all.trials", bad], tmp_path / "e", FEW, progress=False)
    with pytest.raises(UserError, match="There is no trial list"):
        run_stress(home / "run", folder, [], tmp_path / "e", FEW, progress=False)
