"""Whitening, LDA and PLDA as systems of an evaluation: each the chain that it is named for, fitted on a fair sample."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_prep.trials import write_trials
from mqmha_jax.data.metadata import Metadata
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.file_source import FileSource
from mqmha_jax.evaluation.embeddings.sources import Labelled
from mqmha_jax.evaluation.embeddings.speakers import sample_per_speaker
from mqmha_jax.evaluation.evaluate_lists import ScoreFiles, evaluate_lists
from mqmha_jax.evaluation.metrics.detection import equal_error_rate
from mqmha_jax.evaluation.metrics.measure_list import Measuring
from mqmha_jax.evaluation.report.html.report import write_html_report
from mqmha_jax.evaluation.scoring.backend import BackendPlan, fit_backend
from mqmha_jax.evaluation.scoring.linear_backend import fit_lda, fit_mean, fit_whitening
from mqmha_jax.evaluation.scoring.method import Method
from mqmha_jax.evaluation.scoring.plda import fit_plda, plda_scores
from mqmha_jax.types import Embeddings
from tests.support.clouds import all_pairs, cloud, speakers_of

NUISANCE = np.diag([1, 1, 1, 1, 1, 8, 8, 8]).astype(np.float32)  # loud directions, in which all differ alike


def spoken(speakers: int, *, first: int, utterances: int = 5) -> Embeddings:
    """Clouds in which the last three directions say nothing of the speaker."""
    ids, vectors = cloud(speakers, first=first, utterances=utterances, spread=0.6)
    vectors[:, 5:] = np.random.default_rng(first).normal(size=(len(ids), 3))
    return Embeddings(ids, vectors @ NUISANCE)


TRAINED, TESTED, DEV = spoken(60, first=100), spoken(12, first=0), spoken(12, first=50)
TRIALS = all_pairs(TESTED.ids)
LABELLED = Labelled(TRAINED, tuple(speakers_of(TRAINED.ids).values()))
HERE = Path("here.npz")
FEW = Measuring(replicates=20)


def units(vectors: np.ndarray) -> np.ndarray:
    return np.array([vector / np.sqrt(np.sum(vector**2)) for vector in vectors])


@pytest.mark.parametrize(
    ("plan", "names"),
    [
        (BackendPlan(HERE, lda=3), ["lda-cosine"]),
        (BackendPlan(HERE, whiten="pca", shrinkage=0.1), ["whitened-cosine"]),
        (BackendPlan(HERE, plda=True), ["plda"]),
        (BackendPlan(HERE, whiten="zca", lda=3, plda=True), ["whitened-lda-cosine", "plda"]),
    ],
)
def test_systems_are_the_chain_of_their_parts(plan: BackendPlan, names: list[str]) -> None:
    trained, tested, speaker = TRAINED.vectors, TESTED.vectors, np.array(LABELLED.speaker)
    chain = []
    if plan.whiten != "none":
        chain.append(lambda x: fit_whitening(x, plan.whiten, shrinkage=plan.shrinkage))
    if plan.lda:
        chain.append(lambda x: fit_lda(x, speaker, plan.lda))
    for fit in chain or [fit_mean]:
        fitted = fit(trained)
        trained, tested = units(fitted(trained)), units(fitted(tested))
    row = dict(zip(TESTED.ids, tested, strict=True))
    expected = {
        names[0]: [row[one] @ row[other] for one, other in zip(*TRIALS[:2], strict=True)],
        "plda": plda_scores(fit_plda(trained, speaker), Embeddings(TESTED.ids, tested), TRIALS),
    }
    found = fit_backend(plan, LABELLED).scores(TESTED, TRIALS)
    assert [*found] == names
    for name, scores in found.items():
        np.testing.assert_allclose(scores, expected[name], atol=1e-5)


def test_they_find_the_speakers_behind_the_noise_and_whitening_is_not_undone() -> None:
    rates, scores = {}, {}
    for plan in (BackendPlan(HERE, lda=5, plda=True), BackendPlan(HERE, whiten="zca", lda=5)):
        for name, found in fit_backend(plan, LABELLED).scores(TESTED, TRIALS).items():
            rates[name], scores[name] = equal_error_rate(found, TRIALS.target), found
    row = dict(zip(TESTED.ids, units(TESTED.vectors), strict=True))
    plain = np.array([row[one] @ row[other] for one, other in zip(*TRIALS[:2], strict=True)])
    assert max(rates.values()) < 0.6 * equal_error_rate(plain, TRIALS.target)
    # LDA gives the same of any linear map of the embeddings; the unit length between the two makes the difference.
    assert np.abs(scores["lda-cosine"] - scores["whitened-lda-cosine"]).max() > 0.01


def test_a_sample_is_evenly_spaced_over_each_speaker() -> None:
    speaker = np.array(["b"] * 3 + ["a"] * 9 + ["c"] + ["b"] * 4)
    assert sample_per_speaker(speaker, 3).tolist() == [0, 3, 7, 11, 12, 13, 16]  # b has 0, 1, 2, 13, 14, 15, 16
    assert sample_per_speaker(speaker, 20).tolist() == list(range(17))
    many = sample_per_speaker(np.random.default_rng(0).integers(0, 50, 10_000), 7)
    assert len(many) == 350
    assert all(one < other for one, other in pairwise(many))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, embeddings in (("tested", TESTED), ("dev", DEV), ("trained", TRAINED)):
        np.savez(tmp_path / f"{name}.npz", ids=np.array(embeddings.ids), vectors=embeddings.vectors)
    write_trials(tmp_path / "own.trials", TRIALS)
    write_trials(tmp_path / "dev.trials", all_pairs(DEV.ids))
    return tmp_path


@pytest.fixture
def source(files: Path) -> FileSource:
    known = Metadata(speakers_of(TESTED.ids + DEV.ids + TRAINED.ids), {})
    return FileSource([files / "tested.npz", files / "dev.npz"], known)


def test_an_evaluation_shows_and_calibrates_them(files: Path, source: FileSource) -> None:
    plan = BackendPlan(files / "trained.npz", lda=5, plda=True, per_speaker=3)
    method = Method(calibrate=files / "dev.trials", backend=plan)
    evaluation = evaluate_lists(source, [files / "own.trials"], method, measuring=FEW)
    (found,) = evaluation.lists
    names = ["cosine", "lda-cosine", "plda"]
    assert [system.name for system in found.systems] == [*names, *(f"{name} calibrated" for name in names)]
    third = [row for row in range(len(TRAINED.ids)) if row % 5 in (0, 2, 4)]
    ids = tuple(TRAINED.ids[row] for row in third)
    part = Labelled(Embeddings(ids, TRAINED.vectors[third]), tuple(speakers_of(ids).values()))
    expected = fit_backend(plan, part).scores(TESTED, TRIALS)
    np.testing.assert_allclose(found.systems[2].scores, expected["plda"], atol=1e-8)
    assert evaluation.settings["back-end"] == (
        f"LDA to 5, PLDA; fitted on 180 utterances of 60 speakers in {files / 'trained.npz'}, at most 3 of each, "
        "evenly spaced"
    )
    assert evaluation.notes == ()
    write_html_report(files / "r.html", evaluation.lists, title="t", settings=evaluation.settings)
    page = (files / "r.html").read_text()
    assert "LDA to 5, PLDA; fitted on 180 utterances" in page
    assert "lda-cosine" in page


def test_plda_takes_the_utterances_of_a_model_together(files: Path, source: FileSource) -> None:
    enrolled = {f"m{s}": tuple(f"s{s}/u{u}" for u in range(s % 3 + 1)) for s in range(12)}
    # A model that no trial names needs no embeddings.
    (files / "map").write_text("".join(f"{m} {' '.join(own)}\n" for m, own in enrolled.items()) + "other x y\n")
    tests = [f"s{s}/u{u}" for s in range(12) for u in (3, 4)]
    lines = [f"{int(m[1:] == t.split('/')[0][1:])} {m} {t}\n" for m in enrolled for t in tests]
    (files / "models.trials").write_text("".join(lines))
    plan = BackendPlan(files / "trained.npz", plda=True)
    method = Method(enrol_map=files / "map", backend=plan)
    (found,) = evaluate_lists(source, [files / "models.trials"], method, measuring=FEW).lists
    backend = fit_backend(plan, LABELLED)
    assert backend.plda is not None
    expected = plda_scores(backend.plda, backend(TESTED), found.trials, enrolled)
    np.testing.assert_allclose(found.systems[1].scores, expected, atol=1e-8)
    single = plda_scores(backend.plda, backend(TESTED), found.trials, {m: own[:1] for m, own in enrolled.items()})
    alike = np.isclose(found.systems[1].scores, single)
    assert set(np.array(found.trials.enrol)[alike]) == {"m0", "m3", "m6", "m9"}  # those with one utterance
    with pytest.raises(UserError, match="--average scores does not go with --plda, which combines a model's"):
        evaluate_lists(source, [files / "models.trials"], method._replace(average="scores"))


def test_speakers_of_the_list_are_noted(files: Path, source: FileSource) -> None:
    method = Method(backend=BackendPlan(files / "tested.npz", lda=2))
    notes = evaluate_lists(source, [files / "own.trials"], method, measuring=FEW).notes
    assert notes == (
        "own: 12 speakers ('s0', 's1', 's10' and more) are also in the back-end's data: its numbers look better "
        "than they are.",
    )
    with pytest.raises(UserError, match="evaluate without --strict"):
        evaluate_lists(source, [files / "own.trials"], method, strict=True)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (BackendPlan(lda=3), "LDA to 3 must be fitted on utterances of known speakers; give them with --backend"),
        (BackendPlan(whiten="zca", plda=True), "zca whitening and PLDA must be fitted on utterances"),
        (BackendPlan(HERE), r"--backend here.npz has nothing to fit; add --lda SIZE, --whiten zca .or pca. or --plda"),
        (BackendPlan(HERE, plda=True, shrinkage=0.1), "--shrinkage changes the covariances of --whiten and --lda"),
    ],
)
def test_what_does_not_go_together_is_refused(source: FileSource, plan: BackendPlan, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_lists(source, [], Method(backend=plan))


def test_data_that_cannot_be_fitted_on_are_refused(files: Path, source: FileSource) -> None:
    own = [files / "own.trials"]
    plan = BackendPlan(files / "trained.npz", lda=5)
    with pytest.raises(UserError, match="--backend needs embeddings: give a work directory or --embeddings"):
        evaluate_lists(None, own, Method(backend=plan), score_files=ScoreFiles([files / "s.txt"]))
    with pytest.raises(UserError, match="LDA to size 9 with embeddings of size 8 and 60 speakers; valid: 1 to 8"):
        evaluate_lists(source, own, Method(backend=plan._replace(lda=9)))
    source.known = Metadata(speakers_of(TESTED.ids + TRAINED.ids[:7]), {})
    message = r"trained.npz: the speakers of 293 of 300 utterances are not known, first that of 's101/u2'.*--metadata"
    with pytest.raises(UserError, match=message):
        evaluate_lists(source, own, Method(backend=plan))
    np.savez(files / "wide.npz", ids=np.array(["w"]), vectors=np.ones((1, 9), np.float32))
    with pytest.raises(UserError, match=r"wide.npz: embeddings of size 9, the others have 8"):
        evaluate_lists(source, own, Method(backend=plan._replace(fitted_on=files / "wide.npz")))
