"""z-, t-, s-norm and adaptive s-norm equal their formulas written out, on either way to the cohort statistics."""

import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.scoring import normalization
from mqmha_jax.evaluation.scoring.normalization import CohortStatistics, cohort_statistics, normalize_scores
from mqmha_jax.evaluation.scoring.units import centre
from mqmha_jax.types import Embeddings

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((11, 8)).astype(np.float32)
UTTERANCES = Embeddings(tuple(f"u{i}" for i in range(11)), VECTORS)
COHORT = RNG.standard_normal((50, 8)).astype(np.float32)


def slow_statistics(vector, cohort, top_n):
    """Mean and deviation of the highest cosines of one utterance, sorted in double precision."""
    vector, cohort = vector.astype(np.float64), cohort.astype(np.float64)
    cosines = [np.dot(vector, other) / np.linalg.norm(vector) / np.linalg.norm(other) for other in cohort]
    highest = sorted(cosines)[-top_n:]
    return np.mean(highest), np.sqrt(np.mean((highest - np.mean(highest)) ** 2))


@pytest.mark.parametrize("top_n", [None, 12])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_statistics_are_of_the_highest_cosines(top_n, backend, monkeypatch):
    """Both selections, NumPy's and the device's, in tiles that do not divide the utterances."""
    monkeypatch.setattr(normalization, "COHORT_SCORES_PER_TILE", 4 * len(COHORT))
    monkeypatch.setattr(normalization.jax, "default_backend", lambda: backend)
    offset = np.full(8, 0.3, np.float32)
    statistics = cohort_statistics(centre(UTTERANCES, offset), COHORT - offset, top_n=top_n)
    expected = np.array([slow_statistics(v - offset, COHORT - offset, top_n or 50) for v in VECTORS])
    np.testing.assert_allclose(np.stack(statistics, axis=1), expected, atol=1e-6)


def test_each_norm_is_its_formula():
    scores = RNG.standard_normal(6)
    enrol, test = (CohortStatistics(RNG.standard_normal(6), RNG.random(6) + 0.5) for _ in range(2))
    z = [(s - m) / d for s, m, d in zip(scores, *enrol, strict=True)]
    t = [(s - m) / d for s, m, d in zip(scores, *test, strict=True)]
    np.testing.assert_allclose(normalize_scores(scores, enrol=enrol), z)
    np.testing.assert_allclose(normalize_scores(scores, test=test), t)
    np.testing.assert_allclose(normalize_scores(scores, enrol=enrol, test=test), np.add(z, t) / 2)
    np.testing.assert_array_equal(normalize_scores(scores), scores)


def test_statistics_serve_trials_and_matrices_on_host_and_device():
    statistics = cohort_statistics(UTTERANCES, COHORT, top_n=10)
    enrol, test = np.repeat(np.arange(11), 11), np.tile(np.arange(11), 11)
    cosines = RNG.random(121).astype(np.float32)
    listed = normalize_scores(cosines, enrol=statistics.of(enrol), test=statistics.of(test))
    by_row = CohortStatistics(*(values[:, None] for values in statistics))
    by_column = CohortStatistics(*(values[None, :] for values in statistics))
    matrix = normalize_scores(jnp.asarray(cosines.reshape(11, 11)), enrol=by_row, test=by_column)
    np.testing.assert_allclose(matrix, listed.reshape(11, 11), rtol=1e-5, atol=1e-5)


def test_normalised_impostors_have_mean_zero_and_deviation_one():
    """The purpose: cosines of an utterance with the cohort itself, after z-norm against that cohort."""
    statistics = cohort_statistics(UTTERANCES, COHORT)
    cosines = np.array([[slow_statistics(v, c[None], 1)[0] for c in COHORT] for v in VECTORS])
    normalised = normalize_scores(cosines, enrol=CohortStatistics(*(values[:, None] for values in statistics)))
    np.testing.assert_allclose(normalised.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std(axis=1), 1, atol=1e-5)


def test_cohorts_that_cannot_normalise_are_refused():
    for top_n in (1, 51):
        with pytest.raises(UserError, match=f"top_n is {top_n} with a cohort of 50; valid: 2 to the size"):
            cohort_statistics(UTTERANCES, COHORT, top_n=top_n)
    broken = COHORT.copy()
    broken[[4, 7], 0] = np.nan
    with pytest.raises(UserError, match=r"2 of the 50 cohort embeddings are not finite, the first is number 5"):
        cohort_statistics(UTTERANCES, broken)
    with pytest.raises(UserError, match=r"utterance 'u0' are all equal \(11 such utterances\)"):
        cohort_statistics(UTTERANCES, np.ones((3, 8), np.float32))
