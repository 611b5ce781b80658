"""Promised and true probabilities agree where scores are likelihood ratios, and differ where they are not."""

import numpy as np
import pytest

from mqmha_jax.evaluation.report.html.reliability import measure_reliability


@pytest.fixture(scope="module")
def likelihood_ratios():
    """Scores that are log-likelihood ratios by construction: normal with standard deviation 1 and means 0 and 2."""
    rng = np.random.default_rng(0)
    target = np.arange(220_000) < 20_000
    return 2 * (rng.normal(size=len(target)) + 2 * target) - 2, target


def test_true_likelihood_ratios_keep_their_promise(likelihood_ratios):
    found = measure_reliability(*likelihood_ratios)
    assert len(found.predicted) == 10
    assert found.num_trials.sum() == len(likelihood_ratios[0])
    np.testing.assert_allclose(found.observed, found.predicted, atol=0.02)


def test_overconfident_scores_break_their_promise(likelihood_ratios):
    llr, target = likelihood_ratios
    found = measure_reliability(3 * llr, target)
    assert np.all(found.observed[:4] > found.predicted[:4] + 0.03)
    assert np.all(found.observed[-4:] < found.predicted[-4:] - 0.03)


def test_bins_by_hand():
    found = measure_reliability(np.array([np.log(3), np.log(3), -20.0, 800.0]), np.array([True, False, False, True]))
    np.testing.assert_allclose(found.predicted, [0, 0.75, 1], atol=1e-6)
    np.testing.assert_allclose(found.observed, [0, 0.5, 1])
    assert found.num_trials.tolist() == [1, 2, 1]
