"""Cosine scores and adaptive s-norm equal worked numbers and the pair-by-pair formulas."""

from pathlib import Path

import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation import scoring
from mqmha_jax.evaluation.evaluate import evaluate_trials, measure_trials
from mqmha_jax.evaluation.metrics import equal_error_rate, min_dcf
from mqmha_jax.evaluation.scoring import as_norm, cosine_scores
from mqmha_jax.types import Embeddings, Trials

DATA = Path(__file__).parent / "data" / "scoring.npz"


@pytest.fixture(scope="module")
def worked():
    """The reference's embeddings and trials as ours, its cohort and its numbers."""
    archive = np.load(DATA, allow_pickle=False)
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
    scores = cosine_scores(embeddings, trials, mean=cohort.mean(axis=0))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, archive["as_norm/cosine"], atol=1e-6)


def test_as_norm_equals_worked_numbers(worked):
    embeddings, trials, cohort, archive = worked
    scores = as_norm(embeddings, trials, cohort, top_n=int(archive["as_norm/top_n"]), mean=cohort.mean(axis=0))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, archive["as_norm/normalised"], atol=2e-5)


def test_tiles_do_not_change_scores(worked, monkeypatch):
    """Tiles that do not divide the number of trials or utterances, against the formulas written out pair by pair."""
    embeddings, trials, cohort, _ = worked
    monkeypatch.setattr(scoring, "TRIALS_PER_TILE", 64)
    monkeypatch.setattr(scoring, "COHORT_SCORES_PER_TILE", 7 * len(cohort))
    scoring._pair_cosines.clear_cache()
    scoring._cohort_statistics.clear_cache()
    cosine, normalised = cosine_scores(embeddings, trials), as_norm(embeddings, trials, cohort, top_n=11)
    scoring._pair_cosines.clear_cache()
    scoring._cohort_statistics.clear_cache()

    def angle(a, b):
        return np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))

    vector = dict(zip(embeddings.ids, embeddings.vectors.astype(np.float64), strict=True))
    for i in range(0, len(trials.enrol), 29):
        a, b = vector[trials.enrol[i]], vector[trials.test[i]]
        score = angle(a, b)
        assert cosine[i] == pytest.approx(score, abs=1e-6)
        sides = [np.sort([angle(side, other) for other in cohort.astype(np.float64)])[-11:] for side in (a, b)]
        expected = np.mean([(score - side.mean()) / side.std() for side in sides])
        assert normalised[i] == pytest.approx(expected, abs=3e-5)


def test_length_of_an_embedding_does_not_matter(worked):
    embeddings, trials, _, _ = worked
    louder = Embeddings(embeddings.ids, embeddings.vectors * np.float32(1000))
    np.testing.assert_allclose(cosine_scores(louder, trials), cosine_scores(embeddings, trials), atol=1e-6)


def test_evaluation_joins_scores_and_error_rates(worked):
    embeddings, trials, cohort, _ = worked
    utt2spk = {utterance: utterance[-1] for utterance in embeddings.ids}
    mean = cohort.mean(axis=0)
    result = evaluate_trials(embeddings, trials, mean=mean, name="dev", utt2spk=utt2spk)
    scores = cosine_scores(embeddings, trials, mean=mean)
    np.testing.assert_array_equal(result.scores, scores)
    assert result.eer == equal_error_rate(scores, trials.target)
    assert result.min_dcf == {p_target: min_dcf(scores, trials.target, p_target) for p_target in (0.01, 0.05)}
    assert (result.name, result.num_targets, result.num_nontargets, result.num_speakers) == ("dev", 167, 333, 10)
    normalised = as_norm(embeddings, trials, cohort, top_n=30, mean=mean)
    assert measure_trials(normalised, trials).eer == equal_error_rate(normalised, trials.target)
    assert measure_trials(normalised, trials).num_speakers is None


PAIR = Embeddings(("a", "b"), np.eye(2, dtype=np.float32))
TRIAL = Trials(("a",), ("b",), np.array([True]))
COHORT = np.array([[1, 0], [0, 1], [1, 1]], np.float32)


@pytest.mark.parametrize(
    ("embeddings", "trials", "message"),
    [
        (PAIR, TRIAL._replace(test=("bb",)), "'bb' .trial 1.*nearest to the first is 'b'"),
        (PAIR._replace(ids=("a", "a")), TRIAL, "Utterance 'a' has more than one embedding"),
        (
            PAIR._replace(vectors=np.array([[1, 0], [np.nan, 1]], np.float32)),
            TRIAL,
            "'b' is not finite .1 of 2 are not",
        ),
    ],
)
def test_embeddings_that_can_not_be_scored_are_refused(embeddings, trials, message):
    with pytest.raises(UserError, match=message):
        cosine_scores(embeddings, trials)
    with pytest.raises(UserError, match=message):
        as_norm(embeddings, trials, COHORT, top_n=2)


def test_cohorts_that_can_not_normalise_are_refused():
    for top_n in (1, 4):
        with pytest.raises(UserError, match=f"top_n is {top_n} with a cohort of 3; valid: 2 to the size of the cohort"):
            as_norm(PAIR, TRIAL, COHORT, top_n=top_n)
    with pytest.raises(UserError, match=r"cohort scores of utterance 'a' are all alike \(2 such utterances\)"):
        as_norm(PAIR, TRIAL, np.ones((3, 2), np.float32), top_n=2)
