"""The demo's own steps on small corpora: synthetic voices, a folder, a list."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import mqmha_jax.demo as demo
from data_prep.corpora import CORPORA
from mqmha_jax.data.lists import read_trials
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.detection import equal_error_rate
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.train.loop import TrainResult

FEW_STEPS = [
    "train.steps=3",
    "train.log_every=1",
    "train.evaluate_every=3",
    "data.crop_frames=40",
    "data.batch_size=16",
]


def own_audio(root: Path, speakers: int, takes: int = 4) -> Path:
    for speaker in range(speakers):
        for take in range(takes):
            rng = np.random.default_rng((speaker, take))
            path = root / f"s{speaker:02d}" / f"session{take % 2}" / f"{take}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(
                path, 0.1 * rng.normal(size=16_000) * np.sin(np.arange(16_000) * 0.01 * (speaker + 1)), 16_000
            )
    return root


def run(workdir: Path, audio: Path | None, *overrides: str) -> bool:
    return demo.run_demo(workdir, audio=audio, seed=0, overrides=[*FEW_STEPS, *overrides], progress=False)


def test_synthetic_voices_end_in_a_work_directory_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_SPEAKERS", {"train": 8, "dev": 3, "eval": 3})
    monkeypatch.setattr(demo, "_UTTERANCES", 2)
    run(tmp_path, None)
    said = capsys.readouterr().out
    assert "synthetic voices (made by this program; nobody's real voice)" in said
    assert "untrained" in said
    assert {"results_unseen-speakers.png", "report.html", "metrics.json"} <= {
        path.name for path in (tmp_path / "evaluation").iterdir()
    }
    speakers = [set(open_shards(tmp_path / "data" / part).speakers) for part in ("train", "dev", "eval")]
    assert len(set.union(*speakers)) == sum(map(len, speakers))
    encoder = SpeakerEncoder.load(tmp_path)
    assert encoder.threshold is not None
    assert encoder.mean is not None
    assert run(tmp_path, None)  # a second call finds everything done
    assert "trained" in capsys.readouterr().out

    stopped = TrainResult(step=2, trained=2, skipped=0, finished=False, data_wait=0.0)
    monkeypatch.setattr(demo, "train", lambda *args, **options: stopped)
    assert not run(tmp_path, None)
    assert "Stopped after step 2; run the same command again to resume." in capsys.readouterr().out


@pytest.mark.slow
def test_an_own_folder_is_split_by_speaker_and_paired_across_sessions(tmp_path: Path) -> None:
    run(tmp_path / "run", own_audio(tmp_path / "audio", speakers=10))
    trials = read_trials(tmp_path / "run" / "data" / "eval.trials")
    for a, b, target in zip(*trials, strict=True):
        assert not target or a.split("/")[1] != b.split("/")[1]


@pytest.fixture
def only_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo makes its data and trains nothing."""
    stopped = TrainResult(step=0, trained=0, skipped=0, finished=False, data_wait=0.0)
    monkeypatch.setattr(demo, "train", lambda *args, **options: stopped)


def test_data_of_another_corpus_is_not_reported_as_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only_data: None
) -> None:
    monkeypatch.setattr(demo, "_SPEAKERS", {"train": 6, "dev": 2, "eval": 2})
    monkeypatch.setattr(demo, "_UTTERANCES", 1)
    audio = own_audio(tmp_path / "audio", speakers=10)
    run(tmp_path / "run", None)
    run(tmp_path / "run", None)  # the same again is no other data
    with pytest.raises(UserError) as refused:
        run(tmp_path / "run", audio)
    said = str(refused.value)
    assert "run/data/train holds other recordings than this demo asks for. It holds: corpus synthetic voices, " in said
    assert f"Asked for: corpus {audio}, part train, seed 0, speakers 6, recordings 24, fingerprint " in said
    assert said.endswith(f"Give another --workdir, or remove {tmp_path / 'run'} to start again.")


def test_an_interrupted_demo_does_not_go_on_with_another_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only_data: None
) -> None:
    audio, workdir = own_audio(tmp_path / "audio", speakers=10), tmp_path / "run"
    run(workdir, audio)
    before = {name: open_shards(workdir / "data" / name).utterances for name in ("train", "dev", "eval")}
    for path in ("dev", "eval", "dev.trials", "eval.trials"):  # as if it had been killed after the first part
        path = workdir / "data" / path
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=r"data/train holds other .* seed 0, .*Asked for: .* seed 1, "):
        demo.run_demo(workdir, audio=audio, seed=1, overrides=FEW_STEPS, progress=False)
    own_audio(tmp_path / "audio", speakers=12)
    with pytest.raises(UserError, match=r"data/train holds other .* speakers 6, .*Asked for: .* speakers 8, "):
        run(workdir, audio)
    shutil.rmtree(tmp_path / "audio" / "s10")
    shutil.rmtree(tmp_path / "audio" / "s11")
    monkeypatch.chdir(tmp_path)
    run(workdir, Path("audio"))  # the same folder by another name
    assert before == {name: open_shards(workdir / "data" / name).utterances for name in before}


def test_too_few_speakers_are_refused_with_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has 9 speakers; the demo needs at least 10"):
        run(tmp_path / "run", own_audio(tmp_path / "audio", speakers=9, takes=1))


def test_plain_statistics_do_not_solve_the_synthetic_corpus() -> None:
    """Hard enough to be worth training: means and deviations of the spectrum across sessions stay above 25 % EER."""
    from mqmha_jax.config import FbankSpec
    from mqmha_jax.features.fbank import extract_fbank

    recordings = CORPORA["synthetic"](
        num_speakers=20, sessions_per_speaker=3, utterances_per_session=1, seconds=(2.0, 2.0)
    )
    frames = [extract_fbank(recording.waveform(16_000), FbankSpec()) for recording in recordings]
    vectors = np.array([np.concatenate([f.std(axis=0), (f - f.mean()).mean(axis=0)]) for f in frames])
    vectors = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = np.triu_indices(len(vectors), 1)
    same = np.array([recordings[i].speaker == recordings[j].speaker for i, j in zip(first, second, strict=True)])
    assert equal_error_rate((vectors[first] * vectors[second]).sum(axis=1), same) > 0.25


def test_a_list_of_own_audio_is_read_like_a_folder(tmp_path: Path) -> None:
    audio = own_audio(tmp_path / "audio", speakers=10, takes=1)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in audio.rglob("*.wav"))
    lines = [f"{name},{name.split('/')[1]}\n" for name in names]
    (tmp_path / "list.csv").write_text("path,speaker\n" + "".join(lines))
    from_list, from_folder = demo._own_recordings(tmp_path / "list.csv"), demo._own_recordings(audio)
    assert [r.speaker for r in from_list] == [r.speaker for r in from_folder]
    parts = demo._split(from_list, seed=0, trained=6)
    assert {name: len({r.speaker for r in part}) for name, part in parts.items()} == {"train": 6, "dev": 2, "eval": 2}
