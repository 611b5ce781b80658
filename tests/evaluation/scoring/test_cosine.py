"""Cosine scores and adaptive s-norm equal worked numbers and the pair-by-pair formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.scoring import cosine as scoring
from mqmha_jax.evaluation.scoring import normalization
from mqmha_jax.evaluation.scoring.cosine import as_norm, cosine_scores, score_matrix, score_tiles
from mqmha_jax.evaluation.scoring.enrolment import enrolment_scores
from mqmha_jax.evaluation.scoring.units import centre, check_embeddings
from mqmha_jax.types import Embeddings, Trials
from tests.support.paths import REFERENCE

DATA = REFERENCE / "scoring.npz"


@pytest.fixture(scope="module")
def worked():
    """The worked numbers that the project carries."""
    return read_worked(DATA)


def read_worked(path):
    """The reference's embeddings and trials as ours, its cohort and its numbers."""
    archive = np.load(path, allow_pickle=False)
    enrol, test, pairs = archive["as_norm/enrol"], archive["as_norm/test"], archive["as_norm/pairs"]
    ids = tuple(f"enrol{i}" for i in range(len(enrol))) + tuple(f"test{i}" for i in range(len(test)))
    trials = Trials(
        tuple(f"enrol{i}" for i in pairs[:, 0]), tuple(f"test{i}" for i in pairs[:, 1]), np.arange(len(pairs)) % 3 == 0
    )
    cohort = archive["as_norm/cohort"].astype(np.float32)
    embeddings = Embeddings(ids, np.concatenate([enrol, test]).astype(np.float32))
    return embeddings, trials, cohort, archive


def test_cosine_equals_worked_numbers(worked):
    embeddings, trials, cohort, archive = worked
    scores = cosine_scores(centre(embeddings, cohort.mean(axis=0)), trials)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, archive["as_norm/cosine"], atol=1e-6)


def test_as_norm_equals_worked_numbers(worked):
    embeddings, trials, cohort, archive = worked
    mean = cohort.mean(axis=0)
    scores = as_norm(centre(embeddings, mean), trials, cohort - mean, top_n=int(archive["as_norm/top_n"]))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, archive["as_norm/normalised"], atol=2e-5)


def test_all_worked_numbers(reference_dir):
    embeddings, trials, cohort, archive = read_worked(reference_dir / "scoring.npz")
    mean = cohort.mean(axis=0)
    embeddings, cohort = centre(embeddings, mean), cohort - mean
    np.testing.assert_allclose(cosine_scores(embeddings, trials), archive["as_norm/cosine"], atol=1e-6)
    scores = as_norm(embeddings, trials, cohort, top_n=int(archive["as_norm/top_n"]))
    np.testing.assert_allclose(scores, archive["as_norm/normalised"], atol=2e-5)


def test_tiles_do_not_change_scores(worked, monkeypatch):
    """Tiles that do not divide the number of trials or utterances, against the formulas written out pair by pair."""
    embeddings, trials, cohort, _ = worked
    monkeypatch.setattr(scoring, "TRIALS_PER_TILE", 64)
    monkeypatch.setattr(scoring, "_MAX_MATRIX_SCORES", 0)  # these few utterances would be read off the matrix
    monkeypatch.setattr(normalization, "COHORT_SCORES_PER_TILE", 7 * len(cohort))
    scoring._products_of_gathered.clear_cache()
    cosine, normalised = cosine_scores(embeddings, trials), as_norm(embeddings, trials, cohort, top_n=11)
    scoring._products_of_gathered.clear_cache()

    vector = dict(zip(embeddings.ids, embeddings.vectors.astype(np.float64), strict=True))
    for i in range(0, len(trials.enrol), 29):
        a, b = vector[trials.enrol[i]], vector[trials.test[i]]
        score = angle(a, b)
        assert cosine[i] == pytest.approx(score, abs=1e-6)
        sides = [np.sort([angle(side, other) for other in cohort.astype(np.float64)])[-11:] for side in (a, b)]
        expected = np.mean([(score - side.mean()) / side.std() for side in sides])
        assert normalised[i] == pytest.approx(expected, abs=3e-5)


def angle(a, b):
    return np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))


def test_matrix_and_listed_pairs_agree(worked, monkeypatch):
    embeddings, trials, cohort, _ = worked
    monkeypatch.setattr(scoring, "MATRIX_SCORES_PER_TILE", 7 * 60)  # 7 rows a tile; 40 rows
    mean = cohort.mean(axis=0)
    embeddings, cohort = centre(embeddings, mean), cohort - mean
    enrol, test = embeddings.vectors[:40], embeddings.vectors[40:]
    statistics = normalization.cohort_statistics(embeddings, cohort, top_n=30)
    parts = {"enrol_statistics": statistics.of(np.arange(40)), "test_statistics": statistics.of(np.arange(40, 100))}
    assert [rows.stop - rows.start for rows, _ in score_tiles(enrol, test)] == [7, 7, 7, 7, 7, 5]
    rows = np.array([int(name.removeprefix("enrol")) for name in trials.enrol])
    columns = np.array([int(name.removeprefix("test")) for name in trials.test])
    plain, normalised = score_matrix(enrol, test), score_matrix(enrol, test, **parts)
    np.testing.assert_allclose(plain[rows, columns], cosine_scores(embeddings, trials), atol=1e-6)
    np.testing.assert_allclose(normalised[rows, columns], as_norm(embeddings, trials, cohort, top_n=30), atol=2e-5)


def test_enrolment_sides_may_have_embeddings_of_their_own(worked):
    """Models called like utterances are still the models."""
    embeddings, trials, cohort, _ = worked
    models = Embeddings(("test1", "test0"), embeddings.vectors[[3, 4]])
    trials = Trials(("test0", "test1"), ("test1", "enrol0"), np.array([True, False]))
    vector = dict(zip(embeddings.ids, embeddings.vectors.astype(np.float64), strict=True))
    expected = [angle(vector["enrol4"], vector["test1"]), angle(vector["enrol3"], vector["enrol0"])]
    np.testing.assert_allclose(cosine_scores(embeddings, trials, models=models), expected, atol=1e-6)
    renamed = trials._replace(enrol=("enrol4", "enrol3"))
    np.testing.assert_array_equal(
        as_norm(embeddings, trials, cohort, top_n=20, models=models), as_norm(embeddings, renamed, cohort, top_n=20)
    )
    with pytest.raises(UserError, match=r"trial list, enrolment sides: its trials name 1 unknown utterance: 'enrol0'"):
        cosine_scores(embeddings, trials._replace(enrol=("test0", "enrol0")), models=models)


def test_length_of_an_embedding_does_not_matter(worked):
    embeddings, trials, _, _ = worked
    louder = Embeddings(embeddings.ids, embeddings.vectors * np.float32(1000))
    np.testing.assert_allclose(cosine_scores(louder, trials), cosine_scores(embeddings, trials), atol=1e-6)


PAIR = Embeddings(("a", "b"), np.eye(2, dtype=np.float32))
TRIAL = Trials(("a",), ("b",), np.array([True]))
COHORT = np.array([[1, 0], [0, 1], [1, 1]], np.float32)


def test_a_mean_may_be_a_list():
    mean = [0.25, 0.5]
    np.testing.assert_array_equal(centre(PAIR, mean).vectors, centre(PAIR, np.array(mean)).vectors)
    nested = Embeddings(PAIR.ids, PAIR.vectors.tolist())
    np.testing.assert_array_equal(centre(nested, tuple(mean)).vectors, [[0.75, -0.5], [-0.25, 0.5]])


def test_a_mean_that_is_no_numbers_is_refused():
    for mean, message in (
        (["x", "y"], "The values of the mean have type <U1; valid: numbers"),
        ([0.0, [1.0]], r"The values of the mean do not form an array .*; valid: numbers"),
        (np.zeros(()), r"The mean has shape \(\), the embeddings \(2, 2\); valid: \[E\] and"),
    ):
        with pytest.raises(UserError, match=message):
            centre(PAIR, mean)


def test_a_mean_of_another_size_is_refused():
    with pytest.raises(UserError, match=r"The mean has shape \(3,\), the embeddings \(2, 2\); valid: \[E\] and"):
        centre(PAIR, np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("embeddings", "trials", "message"),
    [
        (PAIR, TRIAL._replace(test=("bb",)), "'bb' .trial 1.*nearest to the first is 'b'"),
        (PAIR._replace(ids=("a", "a")), TRIAL, "Utterance 'a' has more than one embedding"),
        (
            PAIR._replace(vectors=np.array([[1, 0], [np.nan, 1]], np.float32)),
            TRIAL,
            "1 of the 2 embeddings are not finite, the first is that of 'b'",
        ),
    ],
)
def test_embeddings_that_cannot_be_scored_are_refused(embeddings, trials, message):
    with pytest.raises(UserError, match=message):
        cosine_scores(embeddings, trials)
    with pytest.raises(UserError, match=message):
        as_norm(embeddings, trials, COHORT, top_n=2)


@pytest.mark.parametrize("factor", [0, 1e-30, 1e-12, 1e19, 1e30])
def test_embeddings_whose_length_float32_cannot_square_are_refused(factor):
    """They used to score 0 against everything, silently."""
    vectors = np.array([[3, 4], [4, 3]], np.float32)
    vectors[1] *= np.float32(factor)
    embeddings = Embeddings(("a", "b"), vectors)
    message = "1 of the 2 embeddings have no usable length, the first is that of 'b'"
    with pytest.raises(UserError, match=message):
        cosine_scores(embeddings, TRIAL)
    with pytest.raises(UserError, match=message):
        as_norm(embeddings, TRIAL, COHORT, top_n=2)
    with pytest.raises(UserError, match="1 of the 2 embeddings have no usable length"):
        enrolment_scores(embeddings, TRIAL, {"a": ("b",)}, average="scores")
    cohort = np.concatenate([COHORT, vectors[1:]])
    with pytest.raises(UserError, match=r"1 of the 4 cohort embeddings have no usable length, the first is number 4"):
        as_norm(PAIR, TRIAL, cohort, top_n=2)


@pytest.mark.parametrize("factor", [1e-9, 1e12])
def test_long_and_short_embeddings_keep_their_cosine(factor):
    vectors = np.array([[3, 4], [4, 3]], np.float32) * np.float32(factor)
    np.testing.assert_allclose(cosine_scores(Embeddings(("a", "b"), vectors), TRIAL), [0.96], atol=1e-6)


def test_lists_are_as_good_as_arrays():
    """As a caller without NumPy has them, or with JAX's arrays."""
    for vectors in ([[3.0, 4.0], [4, 3]], jnp.array([[3.0, 4.0], [4.0, 3.0]])):
        embeddings = check_embeddings(Embeddings(["a", "b"], vectors))
        np.testing.assert_allclose(cosine_scores(embeddings, TRIAL), [0.96], atol=1e-6)
    for ids, vectors, message in (
        (["a"], [[1.0, 2.0], [3.0, 4.0]], r"There are 1 ids and embeddings of shape \(2, 2\); valid: N ids and shape"),
        (["a", "b"], [[1.0], [3.0, 4.0]], "The embeddings do not form an array"),
        (["a"], [["1", "2"]], "The embeddings have type <U1; valid: numbers"),
    ):
        with pytest.raises(UserError, match=message):
            check_embeddings(Embeddings(ids, vectors))


def test_cohorts_that_cannot_normalise_are_refused():
    for top_n in (1, 4):
        with pytest.raises(UserError, match=f"top_n is {top_n} with a cohort of 3; valid: 2 to the size of the cohort"):
            as_norm(PAIR, TRIAL, COHORT, top_n=top_n)
    with pytest.raises(UserError, match=r"cohort scores of utterance 'a' are all equal \(2 such utterances\)"):
        as_norm(PAIR, TRIAL, np.ones((3, 2), np.float32), top_n=2)
