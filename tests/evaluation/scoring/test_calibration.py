"""Calibrated scores are likelihood ratios: known ones are found, costs reach their minimum, decisions follow."""

import numpy as np
import pytest
from scipy.special import expit, logit

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.detection import act_dcf, cllr, min_cllr, min_dcf
from mqmha_jax.evaluation.scoring.calibration import Calibration, decision, fit_calibration
from mqmha_jax.evaluation.scoring.quality import Features, score_feature, trial_features, utterance_measures
from mqmha_jax.types import Embeddings, Trials


def gaussian_scores(rng, num_trials, share=0.3, separation=3.0):
    """Scores N(0, 1) of nontargets and N(separation, 1) of targets: the true LLR is separation (s - separation / 2)."""
    target = rng.random(num_trials) < share
    return rng.normal(size=num_trials) + separation * target, target


def test_finds_the_true_likelihood_ratio():
    scores, target = gaussian_scores(np.random.default_rng(0), 200_000)
    for prior in (0.05, 0.5):
        fitted = fit_calibration(score_feature(scores), target, prior=prior)
        assert fitted.coefficients[0] == pytest.approx(3.0, abs=0.06)
        assert fitted.offset == pytest.approx(-4.5, abs=0.1)


@pytest.mark.parametrize("prior", [0.01, 0.5])
def test_is_the_minimum_of_the_weighted_cost(prior):
    """No small step away from the solution lowers the objective, written out trial by trial."""
    rng = np.random.default_rng(1)
    scores, target = gaussian_scores(rng, 500)
    features = Features(("score", "other"), np.column_stack([scores, 100 + 5 * rng.normal(size=500)]))
    fitted = fit_calibration(features, target, prior=prior)

    def objective(coefficients, offset):
        llr = features.values @ coefficients + offset + logit(prior)
        cost = prior * np.logaddexp(0, -llr[target]).mean() + (1 - prior) * np.logaddexp(0, llr[~target]).mean()
        return cost + 1e-6 * np.sum((coefficients * features.values.std(axis=0)) ** 2)

    best = objective(np.array(fitted.coefficients), fitted.offset)
    for step in np.concatenate([np.eye(3), -np.eye(3)]) * [1e-3, 1e-5, 1e-3]:
        assert objective(np.array(fitted.coefficients) + step[:2], fitted.offset + step[2]) > best


def test_calibration_brings_actual_costs_to_their_minimum_on_other_trials():
    rng = np.random.default_rng(2)
    scores, target = gaussian_scores(rng, 40_000)
    fitted = fit_calibration(score_feature(scores / 7 + 3), target)
    fresh, fresh_target = gaussian_scores(rng, 40_000, share=0.1)
    raw = fresh / 7 + 3
    llr = fitted.llr(score_feature(raw))
    assert cllr(llr, fresh_target) == pytest.approx(min_cllr(raw, fresh_target), abs=0.01)
    assert cllr(raw, fresh_target) > cllr(llr, fresh_target) + 0.5
    assert act_dcf(llr, fresh_target, 0.05) == pytest.approx(min_dcf(raw, fresh_target, 0.05), abs=0.03)


def test_quality_measures_help_where_short_recordings_score_low():
    """Scores shift with the log duration of the shorter side: QMF takes that out again."""
    rng = np.random.default_rng(3)
    ids = tuple(f"u{i}" for i in range(400))
    duration_s = np.exp(rng.normal(1.5, 1.0, 400))
    embeddings = Embeddings(ids, rng.standard_normal((400, 8)).astype(np.float32))
    enrol, test = rng.integers(400, size=(2, 20_000))
    target = rng.random(20_000) < 0.3
    shift = np.log(np.minimum(duration_s[enrol], duration_s[test]))
    scores = rng.normal(size=20_000) + 2 * target + 1.5 * shift
    trials = Trials(tuple(ids[i] for i in enrol), tuple(ids[i] for i in test), target)
    measures = utterance_measures(embeddings, duration_s=duration_s, cohort_mean=rng.random(400))
    features = trial_features(scores, trials, ids, measures)
    assert features.names == (
        "score", "log_norm_min", "log_norm_max", "log_duration_min", "log_duration_max", "cohort_mean_min",
        "cohort_mean_max",
    )  # fmt: skip
    norms = np.linalg.norm(embeddings.vectors, axis=1)
    np.testing.assert_allclose(features.values[:, 2], np.log(np.maximum(norms[enrol], norms[test])), rtol=1e-6)
    half = slice(0, 10_000), slice(10_000, None)
    plain = fit_calibration(score_feature(scores[half[0]]), target[half[0]])
    qmf = fit_calibration(Features(features.names, features.values[half[0]]), target[half[0]])
    llr = qmf.llr(Features(features.names, features.values[half[1]]))
    assert cllr(llr, target[half[1]]) < cllr(plain.llr(score_feature(scores[half[1]])), target[half[1]]) - 0.1
    ratio = dict(zip(features.names, qmf.coefficients, strict=True))
    assert ratio["log_duration_min"] / ratio["score"] == pytest.approx(-1.5, abs=0.1)
    mirrored = trial_features(scores, Trials(trials.test, trials.enrol, target), ids, measures)
    np.testing.assert_array_equal(mirrored.values, features.values)


def test_separable_lists_get_finite_ratios_of_the_right_sign():
    scores, target = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])
    llr = fit_calibration(score_feature(scores), target, prior=0.5).llr(score_feature(scores))
    assert (np.sign(llr) == np.where(target, 1, -1)).all()
    assert 3 < np.abs(llr).min() < np.abs(llr).max() < 50


def test_decisions_and_how_sure_they_are():
    assert decision(0.0) == ("unsure", 0.5)
    assert decision(5.0).verdict == "same"
    assert decision(-5.0).verdict == "different"
    assert decision(5.0, 0.001) == ("unsure", pytest.approx(expit(5 + logit(0.001))))
    assert decision(0.0, 0.4, confidence=0.5) == ("different", pytest.approx(0.4))
    assert decision(np.inf).probability == 1


@pytest.mark.parametrize(
    ("scores", "target", "prior", "message"),
    [
        ([0.1, 0.2], [True, True], 0.5, "only target trials; calibration learns from both"),
        ([0.1, 0.2], [False, False], 0.5, "only nontarget trials"),
        ([], np.zeros(0, bool), 0.5, "no trials"),
        ([0.1, np.nan], [True, False], 0.5, "The feature score of trial 2 is nan; valid: finite"),
        ([0.1, 0.1], [True, False], 0.5, "The feature score is the same for all 2 trials.*leave it out"),
        ([0.1, 0.2], [True, False], 1.0, "prior is 1.0; valid: a number above 0 and below 1"),
        ([0.1, 0.2], [1, 2], 0.5, "other values than 0 and 1; valid: booleans"),
        ([0.1, 0.2], [True, False, True], 0.5, "features of 2 trials and labels of 3"),
    ],
)
def test_lists_that_teach_nothing_are_refused(scores, target, prior, message):
    with pytest.raises(UserError, match=message):
        fit_calibration(score_feature(np.array(scores, np.float64)), np.array(target), prior=prior)


def test_wrong_use_is_refused():
    fitted = Calibration(("score",), (2.0,), 1.0, 0.05)
    with pytest.raises(UserError, match="fitted on score, but the trials have score, log_norm_min; valid: the same"):
        fitted.llr(Features(("score", "log_norm_min"), np.zeros((1, 2))))
    for arguments, message in (
        ({"prior": 1.5}, "prior is 1.5"),
        ({"confidence": 0.2}, "confidence is 0.2; valid: a number of at least 0.5 and below 1"),
    ):
        with pytest.raises(UserError, match=message):
            decision(1.0, **arguments)
    with pytest.raises(UserError, match="ratio is nan"):
        decision(np.nan)
    embeddings = Embeddings(("a", "b"), np.eye(2, dtype=np.float32))
    with pytest.raises(UserError, match=r"The duration of utterance 'b' is 0.0 \(1 such utterances\)"):
        utterance_measures(embeddings, duration_s=np.array([1.0, 0.0]))
