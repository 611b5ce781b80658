"""PLDA scores are likelihood ratios of joint Gaussians, and the fit finds what the data were made from."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.scoring import plda
from mqmha_jax.evaluation.scoring.plda import Plda, fit_plda, plda_scores
from mqmha_jax.types import Embeddings, Trials


def random_covariance(rng, size):
    root = rng.normal(size=(size, size))
    return root @ root.T + 0.3 * np.eye(size)


def simulate(rng, model, counts):
    """Embeddings of speakers; the argument gives the number of utterances of each."""
    size = len(model.mean)
    speaker = np.repeat(np.arange(len(counts)), counts)
    own = rng.multivariate_normal(np.zeros(size), model.between, len(counts))
    noise = rng.multivariate_normal(np.zeros(size), model.within, len(speaker))
    return model.mean + own[speaker] + noise, speaker


def log_density(model, vectors):
    """Joint density of the utterances of one speaker, as one long Gaussian vector."""
    count = len(vectors)
    covariance = np.kron(np.ones((count, count)), model.between) + np.kron(np.eye(count), model.within)
    return multivariate_normal(np.tile(model.mean, count), covariance).logpdf(vectors.ravel())


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    return Plda(rng.normal(size=3), random_covariance(rng, 3), random_covariance(rng, 3))


def test_scores_are_ratios_of_joint_densities(model, monkeypatch):
    monkeypatch.setattr(plda, "_TRIALS_PER_TILE", 7)
    vectors, _ = simulate(np.random.default_rng(1), model, [3] * 7)
    ids = tuple(f"u{i}" for i in range(len(vectors)))
    models = {"one": ids[:1], "two": ids[1:3], "five": ids[3:8]}
    trials = Trials(tuple(models) * 13, tuple(np.repeat(ids[8:], 3)), np.ones(39, bool))
    scores = plda_scores(model, Embeddings(ids, vectors.astype(np.float32)), trials, models)
    expected = []
    for name, test in zip(trials.enrol, trials.test, strict=True):
        enrol = vectors[[ids.index(utterance) for utterance in models[name]]]
        other = vectors[[ids.index(test)]]
        joint = log_density(model, np.concatenate([enrol, other]))
        expected.append(joint - log_density(model, enrol) - log_density(model, other))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    means = np.stack([vectors[[ids.index(utterance) for utterance in own]].mean(axis=0) for own in models.values()])
    matrix = model.score_matrix(means, vectors[8:], np.array([1, 2, 5]))
    np.testing.assert_allclose(matrix, np.reshape(expected, (13, 3)).T, atol=1e-8)


def test_single_utterances_score_alike_either_way_round(model):
    vectors, _ = simulate(np.random.default_rng(2), model, [2] * 3)
    ids = tuple("abcdef")
    embeddings = Embeddings(ids, vectors.astype(np.float32))
    trials = Trials(("a", "a", "e"), ("b", "f", "c"), np.array([True, False, False]))
    forth, back = (
        plda_scores(model, embeddings, trials),
        plda_scores(model, embeddings, Trials(*trials[1::-1], trials[2])),
    )
    np.testing.assert_allclose(forth, back, atol=1e-6)
    np.testing.assert_allclose(forth[0], model.score_matrix(vectors, vectors)[0, 1], atol=1e-5)


def test_likelihood_is_that_of_the_joint_gaussians_and_rises(model):
    counts = np.array([1, 2, 4, 3])
    vectors, speaker = simulate(np.random.default_rng(3), model, counts)
    means = np.stack([vectors[speaker == s].mean(axis=0) for s in range(4)])
    residual = vectors - means[speaker]
    likelihood, better = plda._em_step(model, means, counts, residual.T @ residual)
    expected = sum(log_density(model, vectors[speaker == s]) for s in range(4)) / len(vectors)
    assert likelihood == pytest.approx(expected, abs=1e-9)
    for _ in range(10):
        following, better = plda._em_step(better, means, counts, residual.T @ residual)
        assert following > likelihood
        likelihood = following


def test_fit_finds_the_generating_model(model):
    """Unequal numbers of utterances, from one up."""
    rng = np.random.default_rng(4)
    vectors, speaker = simulate(rng, model, rng.integers(1, 9, 4_000))
    fitted = fit_plda(vectors, np.array([f"s{s}" for s in speaker]))
    np.testing.assert_allclose(fitted.within, model.within, atol=0.05 * np.abs(model.within).max())
    np.testing.assert_allclose(fitted.between, model.between, atol=0.08 * np.abs(model.between).max())
    np.testing.assert_allclose(fitted.mean, model.mean, atol=0.1)
    np.testing.assert_allclose(fitted.between, fitted.between.T, atol=1e-9)


def test_data_that_teach_nothing_are_refused():
    vectors = np.random.default_rng(5).normal(size=(8, 3))
    with pytest.raises(UserError, match=r"8 embeddings of 6 speakers .* size 3; valid: at least 9 embeddings"):
        fit_plda(vectors, np.array([0, 0, 1, 1, 2, 3, 4, 5]))
    with pytest.raises(UserError, match="do not vary in all directions"):
        fit_plda(vectors * [1, 1, 0], np.arange(8) // 4)
    with pytest.raises(UserError, match="All embeddings are of one speaker"):
        fit_plda(vectors, np.zeros(8))


def test_repeated_recordings_of_each_speaker_are_refused():
    """Their variance within speakers is rounding: the largest score was 1e31."""
    repeated = np.repeat(np.random.default_rng(0).normal(size=(40, 3)), 5, axis=0)
    with pytest.raises(UserError, match="different recordings of each speaker: repeated ones do not vary"):
        fit_plda(repeated, np.repeat(np.arange(40), 5))


def test_unknown_names_are_refused(model):
    embeddings = Embeddings(("a", "b"), np.zeros((2, 3), np.float32))
    trials = Trials(("a",), ("c",), np.array([True]))
    with pytest.raises(UserError, match=r"trial list, test sides: its trials name 1 unknown utterance: 'c'"):
        plda_scores(model, embeddings, trials)
    with pytest.raises(UserError, match=r"trial list, enrolment sides: its trials name 1 unknown utterance: 'a'"):
        plda_scores(model, embeddings, trials._replace(test=("b",)), {"m": ("a",)})
    with pytest.raises(UserError, match="Model 'a' has utterance 'x', which has no embedding"):
        plda_scores(model, embeddings, trials._replace(test=("b",)), {"a": ("a", "x")})
