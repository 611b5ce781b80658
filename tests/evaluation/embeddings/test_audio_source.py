"""Lists are evaluated straight from recordings, as from their shards; what is missing or broken is named."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.build_shards import build_shards
from data_prep.corpora.folder import folder_recordings
from data_prep.trials import make_trials, write_trials
from mqmha_jax.data.lists import read_trials
from mqmha_jax.data.metadata import SECONDS
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings import run_network, speaker_recordings
from mqmha_jax.evaluation.embeddings.audio_source import AudioFolder, AudioSource
from mqmha_jax.evaluation.embeddings.run_source import RunSource
from mqmha_jax.evaluation.evaluate_lists import ScoreFiles, evaluate_run
from mqmha_jax.evaluation.metrics.measure_list import Measuring
from mqmha_jax.evaluation.scoring.backend import BackendPlan
from mqmha_jax.evaluation.scoring.method import Method
from mqmha_jax.features.audio import stream_audio
from mqmha_jax.features.part import Part
from tests.support.tiny_run import RATE_HZ, TINY, voice, write_tiny_run, write_voices

QUICK = Measuring(replicates=20)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, recordings of five speakers, their shards, a list of all and one of the first three."""
    home = tmp_path_factory.mktemp("audio_source")
    utt2spk = write_voices(home / "audio", speakers=5, takes=3)
    write_tiny_run(home / "run")
    recordings = folder_recordings(home / "audio")
    build_shards(
        recordings, home / "shards", spec=TINY.fbank, provenance={}, num_workers=0, max_rejected=0, progress=False
    )
    write_trials(home / "all.trials", make_trials(utt2spk, per_speaker=20))
    three = {name: speaker for name, speaker in utt2spk.items() if speaker in {"s0", "s1", "s2"}}
    write_trials(home / "three.trials", make_trials(three, per_speaker=20))
    return home


def open_source(home: Path, utterances: list[str], *, max_rejected: int = 0, said: list[str] | None = None, **folder):
    return AudioSource(
        home / "run",
        AudioFolder(folder.pop("root", home / "audio"), max_rejected=max_rejected, **folder),
        utterances,
        {},
        progress=False,
        say=(lambda text: None) if said is None else said.append,
    )


def test_recordings_and_their_shards_give_the_same_embeddings_and_seconds(home: Path) -> None:
    names = [f"s{speaker}/{take}.wav" for speaker in range(5) for take in range(3)]
    audio = open_source(home, names)
    shards = RunSource(home / "run", [home / "shards"], progress=False)
    ours, theirs = audio.embeddings(names), shards.embeddings(names)
    assert ours.ids == theirs.ids == tuple(names)
    np.testing.assert_allclose(ours.vectors, theirs.vectors, rtol=0, atol=3e-3)  # shards hold float16
    assert audio.known.columns[SECONDS] == pytest.approx(shards.known.columns[SECONDS])


def test_everything_of_an_evaluation_works_from_recordings(home: Path) -> None:
    method = Method(top_n=4, calibrate=home / "three.trials", quality=True, cohort=home / "audio")
    method = method._replace(backend=BackendPlan(home / "audio", lda=2, per_speaker=3, shrinkage=0.5))
    from_audio = evaluate_run(
        home / "run",
        audio=AudioFolder(home / "audio"),
        lists=[home / "all.trials"],
        method=method,
        measuring=QUICK,
        progress=False,
    )
    method = method._replace(cohort=home / "shards", backend=method.backend._replace(fitted_on=home / "shards"))
    from_shards = evaluate_run(
        home / "run",
        data=[home / "shards"],
        lists=[home / "all.trials"],
        method=method,
        measuring=QUICK,
        progress=False,
    )
    (ours,), (theirs,) = from_audio.lists, from_shards.lists
    assert ours.num_speakers == theirs.num_speakers == 5
    assert ours.enrol_speaker == theirs.enrol_speaker  # told by folders and labels here, stored in the shards
    assert [system.name for system in ours.systems] == [system.name for system in theirs.systems]
    assert {"cosine", "as-norm", "lda-cosine", "as-norm calibrated"} <= {system.name for system in ours.systems}
    for one, other in zip(ours.systems[:2], theirs.systems[:2], strict=True):
        np.testing.assert_allclose(one.scores, other.scores, rtol=0.02, atol=0.02)
    assert from_audio.settings["embeddings"].endswith(f", from the audio below {home / 'audio'}")


@pytest.mark.slow
def test_a_list_of_recordings_is_a_cohort_too(home: Path) -> None:
    source = open_source(home, ["s0/0.wav"])
    lines = [f"s{speaker}/{take}.wav,s{speaker}\n" for speaker in range(5) for take in range(3)]
    (home / "cohort.csv").write_text("path,speaker\n" + "".join(lines))
    assert source.speakers_at(home / "cohort.csv") == ("s0", "s1", "s2", "s3", "s4")
    of_list = source.background(home / "cohort.csv", use_mean=True)
    of_folder = source.background(home / "audio", use_mean=True)
    assert of_list.mean is None  # the training set of an imported network is not known
    np.testing.assert_array_equal(of_list.cohort, of_folder.cohort)
    (home / "wrong.csv").write_text("path,speaker\ns0/0.wav,s0\nelsewhere/0.wav,s0\n")
    with pytest.raises(UserError, match=r"1 of 2 recordings are not below .*, first 'elsewhere/0.wav'; give"):
        source.speakers_at(home / "wrong.csv")
    (home / "nobody.csv").write_text("path,session\ns0/0.wav,a\n")
    with pytest.raises(UserError, match="has no column 'speaker'"):
        source.speakers_at(home / "nobody.csv")
    (home / "one.csv").write_text("path,speaker\ns0/0.wav,s0\ns1/0.wav,\n")
    with pytest.raises(UserError, match=r"one.csv:3: utterance 's1/0.wav' has no speaker"):
        source.speakers_at(home / "one.csv")


def test_recordings_of_a_cohort_have_the_ids_of_lists_only_below_their_folder(home: Path) -> None:
    source = open_source(home, ["s0/0.wav"])
    (home / "two.csv").write_text("path,speaker\ns0/0.wav,s0\ns1/1.wav,s1\n")
    assert source.utterances_at(home / "two.csv") == ("s0/0.wav", "s1/1.wav")
    assert source.utterances_at(home / "audio" / "s1") == ("s1/0.wav", "s1/1.wav", "s1/2.wav")
    assert sorted(source.utterances_at(home / "shards")) == sorted(source.utterances_at(home / "audio"))
    elsewhere = home / "elsewhere" / "s0" / "0.wav"  # another recording, whatever its name
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes((home / "audio" / "s0" / "0.wav").read_bytes())
    assert source.utterances_at(home / "elsewhere") == (str(elsewhere),)
    assert source.speakers_at(home / "elsewhere") == ("s0",)


def test_the_cohort_takes_recordings_from_all_sessions(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took the first ones, so 20 recordings of one session stood for a speaker of many."""
    monkeypatch.setattr(run_network, "_COHORT_UTTERANCES", 2)
    source = open_source(home, [f"s0/{take}.wav" for take in range(3)])
    first, _, last = source.embeddings([f"s0/{take}.wav" for take in range(3)]).vectors
    expected = (first / np.linalg.norm(first) + last / np.linalg.norm(last)) / 2
    cohort = source.background(home / "audio", use_mean=False).cohort
    np.testing.assert_allclose(cohort[0], expected, rtol=1e-4, atol=1e-5)


def test_missing_recordings_are_named_and_refused_unless_allowed(home: Path) -> None:
    names = ["s0/0.wav", "s0/8.wav", "s0/9.wav", "../secret.wav", "s7/1.wav"]
    with pytest.raises(UserError, match=r"4 of 5 recordings in the lists are not below .*: \.\./secret\.wav, s0/8"):
        open_source(home, names, max_rejected=3)
    source = open_source(home, names, max_rejected=4)
    assert [*source.utterances] == ["s0/0.wav"]
    assert source.left_out == {*names[1:]}
    with pytest.raises(UserError, match=r"None of 1 recording in the lists is below .*; there is no .*s0/8\.wav"):
        open_source(home, ["s0/8.wav"], max_rejected=9)
    with pytest.raises(UserError, match="There is no folder"):
        open_source(home, names, root=home / "nowhere")


def test_broken_recordings_are_left_out_with_their_trials(home: Path, tmp_path: Path) -> None:
    utt2spk = write_voices(tmp_path / "audio", speakers=3, takes=3)
    (tmp_path / "audio" / "s1/2.wav").write_bytes(b"RIFF, and nothing else")
    (tmp_path / "audio" / "s2/2.wav").unlink()
    write_trials(tmp_path / "list", make_trials(utt2spk, per_speaker=20))
    trials = read_trials(tmp_path / "list")
    lost = sum(bool({"s1/2.wav", "s2/2.wav"} & {*pair}) for pair in zip(trials.enrol, trials.test, strict=True))
    said: list[str] = []
    options = {"lists": [tmp_path / "list"], "measuring": QUICK, "progress": False, "say": said.append}
    with pytest.raises(UserError, match=r"s1/2\.wav: .*It is number 2 of the .*--max-rejected 2 leaves"):
        evaluate_run(home / "run", audio=AudioFolder(tmp_path / "audio", max_rejected=1), **options)
    evaluation = evaluate_run(home / "run", audio=AudioFolder(tmp_path / "audio", max_rejected=2), **options)
    note = f"list: {lost} of {len(trials.target)} trials lack a usable recording and are left out."
    assert note in evaluation.notes
    assert f"Warning: {note}" in said
    assert len(evaluation.lists[0].trials.target) == len(trials.target) - lost
    assert any(text.startswith("Left out: ") and "s1/2.wav" in text for text in said)


def test_files_of_scores_are_read_before_the_recordings(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utt2spk = write_voices(tmp_path / "audio", speakers=3, takes=3)
    write_trials(tmp_path / "list", make_trials(utt2spk, per_speaker=20))
    trials = read_trials(tmp_path / "list")
    (tmp_path / "ours.txt").write_text("".join(f"{score}\n" for score in range(len(trials.target))))
    options = {"lists": [tmp_path / "list"], "measuring": QUICK, "progress": False}
    (tmp_path / "audio" / "s1/2.wav").write_bytes(b"RIFF, and nothing else")
    evaluation = evaluate_run(
        home / "run",
        audio=AudioFolder(tmp_path / "audio", max_rejected=1),
        score_files=ScoreFiles([tmp_path / "ours.txt"]),
        **options,
    )
    left = [row for row, pair in enumerate(zip(*trials[:2], strict=True)) if "s1/2.wav" not in pair]
    assert [system.name for system in evaluation.lists[0].systems] == ["cosine", "ours"]
    np.testing.assert_array_equal(evaluation.lists[0].systems[1].scores, left)

    def embed(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(AudioSource, "embeddings", embed)
    (tmp_path / "e.npz").write_bytes(b"PK\x03\x04\xff")
    for names, message in (
        (["e.npz"], r"e\.npz.* text file in UTF-8"),
        (["ours.txt", "copy/ours.txt"], r"copy/ours\.txt: another system is also called 'ours'"),
    ):
        files = ScoreFiles([tmp_path / name for name in names])
        with pytest.raises(UserError, match=message):
            evaluate_run(home / "run", audio=AudioFolder(tmp_path / "audio"), score_files=files, **options)


def test_recordings_of_every_awkward_kind(home: Path, tmp_path: Path) -> None:
    kinds = {
        "stereo.wav": np.stack([voice(0, 0), voice(1, 0)], axis=1),
        "short.wav": voice(0, 0)[: RATE_HZ // 20],
        "silent.wav": np.zeros(RATE_HZ),
        "nan.wav": np.full(RATE_HZ, np.nan),
        "tiny.wav": voice(0, 0)[:100],
    }
    for name, samples in kinds.items():
        soundfile.write(tmp_path / name, samples, RATE_HZ, subtype="FLOAT")
    soundfile.write(tmp_path / "telephone.wav", voice(0, 0)[::2], 8_000)
    names = [*kinds, "telephone.wav"]
    said: list[str] = []
    source = open_source(home, names, root=tmp_path, max_rejected=2, said=said)
    assert source.embeddings(names).ids == ("stereo.wav", "short.wav", "silent.wav", "telephone.wav")
    assert source.left_out == {"nan.wav", "tiny.wav"}
    assert ["nan.wav: 16000 of 16000 samples are NaN" in said[0], "6.25 ms long" in said[1]] == [True, True]
    assert "(2 such warnings; this is the first)" in said[2]
    left = open_source(home, names[:1], root=tmp_path, channel=1).embeddings(names[:1])
    alone = open_source(home, ["s1/0.wav"]).embeddings(["s1/0.wav"])
    np.testing.assert_allclose(left.vectors, alone.vectors, atol=2e-3)
    with pytest.raises(UserError, match=r"stereo\.wav: has 2 channels, so no channel 2 \(counted from 0\)"):
        open_source(home, names[:1], root=tmp_path, channel=2).embeddings(names[:1])


def test_recordings_of_a_cohort_have_the_channel_of_the_trials(home: Path, tmp_path: Path) -> None:
    """A cohort of means of both channels stood beside trials of one."""
    cohort = tmp_path / "s1" / "0.wav"
    cohort.parent.mkdir()
    soundfile.write(cohort, np.stack([voice(0, 0), voice(1, 0)], axis=1), RATE_HZ)
    for channel, speaker in enumerate(("s0", "s1")):
        source = open_source(home, ["s1/0.wav"], root=tmp_path, channel=channel)
        alone = open_source(home, [f"{speaker}/0.wav"]).embeddings([f"{speaker}/0.wav"]).vectors[0]
        found = source.background(tmp_path, use_mean=False).cohort
        np.testing.assert_allclose(found[0], alone / np.linalg.norm(alone), atol=1e-3)


def test_only_the_beginning_of_a_recording_of_a_cohort_is_decoded(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[float] = []

    def stream(path: str | Path, rate_hz: int, part: Part) -> Iterator[np.ndarray]:
        for block in stream_audio(path, rate_hz, part):
            decoded.append(len(block) / rate_hz)
            yield block

    monkeypatch.setattr(speaker_recordings, "stream_audio", stream)
    (tmp_path / "s0").mkdir()
    soundfile.write(tmp_path / "s0" / "long.wav", voice(0, 0, seconds=120), RATE_HZ)
    open_source(home, ["s0/0.wav"]).background(tmp_path, use_mean=False)
    assert 3 < sum(decoded) < 100


def test_shards_for_calibration_may_be_those_of_the_trials_under_another_name(home: Path) -> None:
    other_name = home / "audio" / ".." / "shards"
    method = Method(calibrate=home / "three.trials")
    lists = {"lists": [home / "all.trials"], "method": method, "measuring": QUICK, "progress": False}
    expected = evaluate_run(home / "run", data=[home / "shards"], **lists)
    found = evaluate_run(home / "run", data=[home / "shards"], calibrate_data=[other_name], **lists)
    assert found.lists[0].systems[0].metrics == expected.lists[0].systems[0].metrics
    with pytest.raises(UserError, match="--calibrate-data does not go with --audio"):
        evaluate_run(home / "run", audio=AudioFolder(home / "audio"), calibrate_data=[home / "shards"], **lists)
