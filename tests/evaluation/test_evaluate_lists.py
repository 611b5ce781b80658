"""The evaluator by itself, on embeddings and on files of scores: every way of scoring, and what it refuses."""

import os
from pathlib import Path

import numpy as np
import pytest

from data_prep.trials import write_trials
from mqmha_jax.data.metadata import Metadata, read_metadata
from mqmha_jax.data.score_files import write_scores
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.file_source import FileSource
from mqmha_jax.evaluation.evaluate_lists import ScoreFiles, evaluate_lists
from mqmha_jax.evaluation.leaks import shared_speakers
from mqmha_jax.evaluation.metrics.detection import equal_error_rate
from mqmha_jax.evaluation.metrics.measure_list import Measuring
from mqmha_jax.evaluation.scoring.calibration import fit_calibration
from mqmha_jax.evaluation.scoring.cosine import as_norm, cosine_scores
from mqmha_jax.evaluation.scoring.method import Method
from mqmha_jax.evaluation.scoring.quality import score_feature
from mqmha_jax.evaluation.scoring.units import centre
from mqmha_jax.types import Embeddings, Trials
from tests.support.clouds import all_pairs, cloud, speakers_of

SPOKEN, DEV, COHORT = cloud(6), cloud(5, first=10), cloud(30, first=20, utterances=1)
TRIALS = all_pairs(SPOKEN.ids)
KNOWN = Metadata(speakers_of(SPOKEN.ids + DEV.ids), {})
FEW = Measuring(replicates=20)


def save(path: Path, embeddings: Embeddings) -> Path:
    np.savez(path, ids=np.array(embeddings.ids), vectors=embeddings.vectors)
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, embeddings in (("spoken", SPOKEN), ("dev", DEV), ("cohort", COHORT)):
        save(tmp_path / f"{name}.npz", embeddings)
    write_trials(tmp_path / "own.trials", TRIALS)
    write_trials(tmp_path / "dev.trials", all_pairs(DEV.ids))
    return tmp_path


@pytest.fixture
def source(files: Path) -> FileSource:
    return FileSource([files / "spoken.npz", files / "dev.npz"], KNOWN)


def test_every_way_of_scoring_is_what_its_functions_say(files: Path, source: FileSource) -> None:
    method = Method(files / "cohort.npz", top_n=20, calibrate=files / "dev.trials")
    evaluation = evaluate_lists(source, [files / "own.trials"], method, measuring=FEW)
    mean = COHORT.vectors.mean(axis=0)
    spoken, dev_list, cohort = centre(SPOKEN, mean), all_pairs(DEV.ids), COHORT.vectors - mean
    dev = centre(DEV, mean)
    expected = {
        "cosine": cosine_scores(spoken, TRIALS),
        "as-norm": as_norm(spoken, TRIALS, cohort, top_n=20),
    }
    for name, scored in (
        ("cosine", cosine_scores(dev, dev_list)),
        ("as-norm", as_norm(dev, dev_list, cohort, top_n=20)),
    ):
        fitted = fit_calibration(score_feature(scored), dev_list.target)
        expected[f"{name} calibrated"] = fitted.llr(score_feature(expected[name]))
    (found,) = evaluation.lists
    assert [system.name for system in found.systems] == list(expected)
    for system in found.systems:
        np.testing.assert_allclose(system.scores, expected[system.name], atol=1e-5)
        assert system.calibrated == system.name.endswith("calibrated")
    assert evaluation.notes == ()
    assert evaluation.settings["as-norm"].endswith("30 members, the 20 nearest count")


def test_quality_measures_enter_the_calibration(files: Path, source: FileSource) -> None:
    method = Method(files / "cohort.npz", top_n=20, calibrate=files / "dev.trials", quality=True)
    calibrations = evaluate_lists(source, [files / "own.trials"], method, measuring=FEW).calibrations
    assert calibrations["cosine"].features == ("score", "log_norm_min", "log_norm_max")
    assert calibrations["as-norm"].features[-2:] == ("cohort_mean_min", "cohort_mean_max")
    seconds = {name: 1.0 + i % 3 for i, name in enumerate((*SPOKEN.ids, *DEV.ids))}
    timed = Metadata({}, {"seconds": seconds})
    method = Method(calibrate=files / "dev.trials", quality=True)
    found = evaluate_lists(source, [files / "own.trials"], method, known=timed, measuring=FEW)
    assert found.calibrations["cosine"].features[-2:] == ("log_duration_min", "log_duration_max")
    alike = Metadata({}, {"seconds": dict.fromkeys(seconds, 2.0)})  # these teach nothing
    found = evaluate_lists(source, [files / "own.trials"], method, known=alike, measuring=FEW)
    assert found.calibrations["cosine"].features == ("score", "log_norm_min", "log_norm_max")


def test_durations_that_a_table_knows_in_part_do_not_enter_the_calibration(files: Path, source: FileSource) -> None:
    cells = {name: "" if name == SPOKEN.ids[0] else i % 3 + 1 for i, name in enumerate((*SPOKEN.ids, *DEV.ids))}
    (files / "facts.csv").write_text("utterance,seconds\n" + "".join(f"{u},{cell}\n" for u, cell in cells.items()))
    method = Method(calibrate=files / "dev.trials", quality=True)
    known = read_metadata(files / "facts.csv")
    found = evaluate_lists(source, [files / "own.trials"], method, known=known, measuring=FEW)
    assert found.calibrations["cosine"].features == ("score", "log_norm_min", "log_norm_max")


def test_models_of_several_utterances(files: Path, source: FileSource) -> None:
    (files / "map").write_text("".join(f"m{s} s{s}/u0 s{s}/u1\n" for s in range(6)))
    tests = [f"s{s}/u{u}" for s in range(6) for u in (2, 3)]
    lines = [f"{int(name[1] == str(s))} m{s} {name}\n" for s in range(6) for name in tests]
    (files / "models.trials").write_text("".join(lines))
    own = {name: vector / np.linalg.norm(vector) for name, vector in zip(*SPOKEN, strict=True)}
    for average in ("embeddings", "scores"):
        method = Method(enrol_map=files / "map", average=average)
        (found,) = evaluate_lists(source, [files / "models.trials"], method, measuring=FEW).lists
        assert found.enrol_speaker is not None
        assert found.enrol_speaker[0] == "s0"
        for model, test, score in zip(*found.trials[:2], found.systems[0].scores, strict=True):
            mean = (own[f"s{model[1]}/u0"] + own[f"s{model[1]}/u1"]) / 2
            length = np.linalg.norm(mean) if average == "embeddings" else 1
            assert score == pytest.approx(mean @ own[test] / length, abs=1e-5)
    for options, message in (
        ({"average": "scores", "cohort": files / "cohort.npz"}, "--average scores does not go with --as-norm"),
        ({"quality": True, "calibrate": files / "dev.trials"}, "--quality looks at single utterances"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate_lists(source, [files / "models.trials"], Method(enrol_map=files / "map", **options))


def test_files_of_scores_stand_alone_or_beside_embeddings(files: Path, source: FileSource) -> None:
    scores = np.random.default_rng(0).normal(size=len(TRIALS.target)) + 2 * TRIALS.target
    for name in ("ours.txt", "theirs.txt"):
        write_scores(files / name, TRIALS, scores)
    both = ScoreFiles([files / "ours.txt", files / "theirs.txt"])
    evaluation = evaluate_lists(None, [files / "own.trials"], score_files=both, known=KNOWN, measuring=FEW)
    assert [system.name for system in evaluation.lists[0].systems] == ["ours", "theirs"]
    assert evaluation.lists[0].systems[0].metrics["EER"].value == equal_error_rate(scores, TRIALS.target)
    assert evaluation.embeddings is None
    ratios = ScoreFiles([files / "ours.txt"], are_llr=True)
    beside = evaluate_lists(source, [files / "own.trials"], score_files=ratios, measuring=FEW)
    assert [(system.name, system.calibrated) for system in beside.lists[0].systems] == [
        ("cosine", False),
        ("ours", True),
    ]
    (files / "cosine.txt").write_text((files / "ours.txt").read_text())
    with pytest.raises(UserError, match=r"cosine.txt: another system is also called 'cosine'"):
        evaluate_lists(source, [files / "own.trials"], score_files=ScoreFiles([files / "cosine.txt"]))


def test_scores_that_are_lower_for_the_same_speaker_are_noted(files: Path) -> None:
    distances = np.random.default_rng(0).normal(size=len(TRIALS.target)) - 2 * TRIALS.target
    write_scores(files / "distances.txt", TRIALS, distances)
    said: list[str] = []
    listed, own = ScoreFiles([files / "distances.txt"]), [files / "own.trials"]
    evaluation = evaluate_lists(None, own, score_files=listed, measuring=Measuring(replicates=0), say=said.append)
    (note,) = evaluation.notes
    assert said == [f"Warning: {note}"]
    assert "distances.txt: its EER on own is 8" in note
    assert "worse than guessing. Scores must be higher for the same speaker; if these are distances" in note


def test_shared_speakers_and_repeated_trials_are_noted_or_refused(files: Path, source: FileSource) -> None:
    lines = (files / "own.trials").read_text()
    (files / "own.trials").write_text(lines + lines.splitlines()[0] + "\n")
    write_trials(files / "dev.trials", all_pairs(SPOKEN.ids[:8]))
    save(files / "cohort.npz", Embeddings(("s0/u0", *COHORT.ids[1:]), COHORT.vectors))
    source.training_speakers = ("s1", "s2#speed0.9", "x")
    method = Method(files / "cohort.npz", top_n=20, calibrate=files / "dev.trials")
    notes = evaluate_lists(source, [files / "own.trials"], method, measuring=FEW).notes
    assert [note.split(" (")[0] for note in notes] == [
        "own: 1 of 277 trials repeat an earlier one, first 's0/u0 s0/u1'",
        "own: 2 speakers",
        "own: 2 speakers",
        f"calibration list {files / 'dev.trials'}: 1 speaker",
        "own: 1 speaker",
        f"calibration list {files / 'dev.trials'}: 1 speaker",
    ]
    assert notes[1].endswith("('s1', 's2') are also in the training set: the numbers look better than they are.")
    assert notes[2].endswith(
        "('s0', 's1') are also in the calibration list: calibrated numbers look better than they are."
    )
    assert notes[3].endswith("also in the training set: its calibration is too sure.")
    assert notes[4].endswith("('s0') is also in the cohort: take other speakers.")
    with pytest.raises(UserError, match=r"repeat an earlier one.*Correct the list, or evaluate without --strict"):
        evaluate_lists(source, [files / "own.trials"], method, measuring=FEW, strict=True)


def test_utterances_of_unknown_speakers_in_a_cohort_or_calibration_list_are_noted(files: Path) -> None:
    own, method = [files / "own.trials"], Method(files / "spoken.npz", top_n=20, calibrate=files / "own2.trials")
    write_trials(files / "own2.trials", TRIALS)
    for known in (Metadata({}, {}), KNOWN):
        source = FileSource([files / "spoken.npz"], known)
        notes = evaluate_lists(source, own, method, measuring=FEW).notes
        what = "24 utterances ('s0/u0', 's0/u1', 's0/u2' and more)" if known is not KNOWN else "6 speakers"
        assert len(notes) == 3  # one for each fact
        assert all(f": {what}" in note for note in notes)
        assert notes[0].endswith("in the calibration list: calibrated numbers look better than they are.")
        assert notes[1].endswith("in the cohort: take other speakers.")
        with pytest.raises(UserError, match=r"in the calibration list.*evaluate without --strict"):
            evaluate_lists(source, own, method, measuring=FEW, strict=True)


def test_metadata_of_other_ids_are_noted(files: Path, source: FileSource) -> None:
    for utterance, noted in (("s0/u0", False), ("below/s0/u0", True)):
        said: list[str] = []
        columns = Metadata({}, {"session": {utterance: "x"}})
        evaluate_lists(source, [files / "own.trials"], known=columns, measuring=FEW, say=said.append)
        text = "none of their ids, such as 'below/s0/u0', is in a trial list, which has ids such as 's0/u0'"
        assert any(text in sentence for sentence in said) == noted


def test_many_shared_speakers_are_counted_and_three_named() -> None:
    (note,) = shared_speakers("list", "abcde", "edcbaz", "a bad set")
    assert note == "list: 5 speakers ('a', 'b', 'c' and more) are also in a bad set."
    assert shared_speakers("list", "a", ["a#speed1.1"], "x") == ["list: 1 speaker ('a') is also in x."]


def test_what_does_not_fit_together_is_refused(files: Path, source: FileSource) -> None:
    own = [files / "own.trials"]
    with pytest.raises(UserError, match="There is no trial list; give one with --trials FILE"):
        evaluate_lists(source, [])
    with pytest.raises(UserError, match="Nothing to evaluate: give a work directory, --embeddings or --scores"):
        evaluate_lists(None, own)
    write_scores(files / "s.txt", TRIALS, np.zeros(len(TRIALS.target)))
    with pytest.raises(UserError, match="--as-norm needs embeddings"):
        evaluate_lists(None, own, Method(files / "cohort.npz"), score_files=ScoreFiles([files / "s.txt"]))
    with pytest.raises(UserError, match="--quality is a way to calibrate; give the list"):
        evaluate_lists(source, own, Method(quality=True))
    (files / "other").mkdir()
    write_trials(files / "other" / "own.trials", TRIALS)
    with pytest.raises(UserError, match="Two trial lists have the same file name"):
        evaluate_lists(source, [*own, files / "other" / "own.trials"])
    bad = os.fsdecode(b"v\xff")
    write_trials(files / f"{bad}.trials", TRIALS)
    with pytest.raises(UserError, match=r"^The name of the trial list 'v\\udcff' has the character .* Rename it\.$"):
        evaluate_lists(source, [*own, files / f"{bad}.trials"])
    write_scores(files / f"{bad}.txt", TRIALS, np.zeros(len(TRIALS.target)))
    with pytest.raises(UserError, match=r"^The name of the file of scores 'v\\udcff' has the character"):
        evaluate_lists(None, own, score_files=ScoreFiles([files / f"{bad}.txt"]))
    write_trials(files / "one.trials", Trials(("s0/u0",), ("s0/u1",), np.array([True])))
    with pytest.raises(UserError, match=r"one: only target trials \(1\)"):
        evaluate_lists(source, [files / "one.trials"])
    write_trials(files / "far.trials", Trials(("s0/u0", "s0/u9"), ("s0/u1", "s1/u0"), np.array([True, False])))
    with pytest.raises(UserError, match=r"far: its trials name 1 unknown utterance: 's0/u9' \(trial 2\)"):
        evaluate_lists(source, [files / "far.trials"])


@pytest.mark.parametrize("factor", [0, 1e25, 1e300])
def test_embeddings_without_a_usable_length_are_refused_in_every_role(files: Path, factor: float) -> None:
    """An embedding of length zero used to pass where the cohort's mean was subtracted from it."""

    def evaluate_with_cohort() -> None:
        source = FileSource([files / "spoken.npz", files / "dev.npz"], KNOWN)
        evaluate_lists(source, [files / "own.trials"], Method(files / "cohort.npz", top_n=20), measuring=FEW)

    evaluate_with_cohort()
    for role, embeddings in (("spoken", SPOKEN), ("cohort", COHORT)):
        vectors = embeddings.vectors.astype(np.float64)
        vectors[3] *= factor
        good = (files / f"{role}.npz").read_bytes()
        save(files / f"{role}.npz", Embeddings(embeddings.ids, vectors))
        with pytest.raises(UserError, match=rf"1 of .* embeddings .*{embeddings.ids[3]}'"):
            evaluate_with_cohort()
        (files / f"{role}.npz").write_bytes(good)


def test_embeddings_of_another_network_are_refused(files: Path, source: FileSource) -> None:
    save(files / "wide.npz", Embeddings(("w",), np.ones((1, 9), np.float32)))
    with pytest.raises(UserError, match=r"wide.npz: embeddings of size 9, the others have 8"):
        FileSource([files / "spoken.npz", files / "wide.npz"], KNOWN)
    with pytest.raises(UserError, match=r"wide.npz: embeddings of size 9"):
        source.background(files / "wide.npz", use_mean=True)
    save(files / "again.npz", Embeddings(SPOKEN.ids[:1], SPOKEN.vectors[:1]))
    with pytest.raises(UserError, match=r"again.npz: 's0/u0' also has an embedding in another file"):
        FileSource([files / "spoken.npz", files / "again.npz"], KNOWN)


def test_embeddings_of_files_say_which_mean_is_subtracted(files: Path) -> None:
    """Without one, the error rate of one system was 32 % in place of 21 %, and nothing told."""

    def score(method: Method, mean: Path | None = None) -> tuple[np.ndarray, list[str]]:
        said: list[str] = []
        source = FileSource([files / "spoken.npz"], KNOWN, mean=mean, say=said.append)
        evaluation = evaluate_lists(source, [files / "own.trials"], method, measuring=FEW)
        return evaluation.lists[0].systems[0].scores, said

    plain, said = score(Method())
    np.testing.assert_array_equal(plain, cosine_scores(SPOKEN, TRIALS))
    assert "No mean is subtracted, because that of the training set is not known" in said[0]
    assert "Give it with --mean FILE" in said[0]
    assert score(Method(use_mean=False))[1] == []
    assert score(Method(files / "cohort.npz", top_n=20))[1] == [
        f"The mean of the cohort {files / 'cohort.npz'} is subtracted from all embeddings."
    ]
    mean = COHORT.vectors.mean(axis=0)
    np.savez(files / "mean_embedding-40.npz", mean=mean, step=40, checkpoint="")
    for path in (files / "cohort.npz", files / "mean_embedding-40.npz"):
        centred, said = score(Method(), path)
        np.testing.assert_allclose(centred, cosine_scores(centre(SPOKEN, mean), TRIALS), rtol=1e-6)
        assert said == [f"The mean of {path} is subtracted from all embeddings."]
    np.savez(files / "wrong.npz", mean=mean[:3])
    with pytest.raises(UserError, match=r"wrong\.npz: embeddings of size 3, the others have 8"):
        score(Method(), files / "wrong.npz")
    np.savez(files / "wrong.npz", mean=mean * np.nan)
    with pytest.raises(UserError, match=r"wrong\.npz holds no mean \[E\] of finite numbers"):
        score(Method(), files / "wrong.npz")
