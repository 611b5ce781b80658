"""Paired comparisons: a real difference is found, none is not, and seeds widen the interval."""

import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.bootstrap import speaker_bootstrap
from mqmha_jax.evaluation.metrics.compare import COMPARED, compare_systems
from mqmha_jax.evaluation.metrics.detection import equal_error_rate, min_dcf


@pytest.fixture(scope="module")
def trials():
    """Targets, speakers, and what is hard about each trial for every system."""
    rng = np.random.default_rng(0)
    speaker = np.repeat(np.arange(30), 12)
    one, other = np.triu_indices(30, 1)
    enrol, test = np.concatenate([speaker, one, one]), np.concatenate([speaker, other, other])
    target = enrol == test
    hardness = rng.normal(0, 1, 30)
    shared = np.where(target, 3.0, 0.0) + hardness[enrol] * np.where(target, 1, 0.3) + rng.normal(0, 1, len(target))
    return shared, target, enrol, test


def system(trials, seed, noise):
    """A system that sees the shared scores through noise of its own."""
    shared = trials[0]
    return shared + noise * np.random.default_rng(seed).normal(size=len(shared))


def test_difference_is_the_mean_over_crossed_seeds(trials):
    a, b = (np.stack([system(trials, seed, noise) for seed in seeds]) for seeds, noise in (((1, 2), 1), ((3, 4, 5), 0)))
    _, target, enrol, test = trials
    result = compare_systems(a, b, target, enrol, test, replicates=50)
    assert list(result) == ["eer", "min_dcf_0.01"]
    for name, metric in (("eer", equal_error_rate), ("min_dcf_0.01", lambda s, t: min_dcf(s, t, 0.01))):
        crossed = [metric(row_b, target) - metric(row_a, target) for row_a in a for row_b in b]
        assert result[name].difference == pytest.approx(np.mean(crossed), abs=1e-12)
        assert result[name].b - result[name].a == pytest.approx(result[name].difference, abs=1e-12)


def test_pairing_finds_what_two_intervals_do_not(trials):
    """B sees the same scores with less noise: the systems' own intervals overlap, that of the difference is clear."""
    _, target, enrol, test = trials
    a, b = system(trials, 1, 0.9)[None], system(trials, 2, 0.2)[None]
    eer = compare_systems(a, b, target, enrol, test, replicates=300)["eer"]
    assert eer.interval[0] < eer.difference < eer.interval[1] < 0
    assert eer.p_value < 0.05
    assert eer.probability_b_better > 0.95
    assert eer.reliable
    alone = speaker_bootstrap(np.concatenate([a, b]), target, enrol, test, COMPARED, replicates=300).interval()
    assert alone[1, 0, 1] > alone[0, 0, 0]
    turned = compare_systems(b, a, target, enrol, test, replicates=300)["eer"]
    assert turned.difference == -eer.difference
    assert turned.interval == pytest.approx((-eer.interval[1], -eer.interval[0]), abs=0.002)
    assert turned.p_value == pytest.approx(eer.p_value, abs=0.01)
    assert turned.probability_b_better == pytest.approx(1 - eer.probability_b_better)


def test_a_system_equals_itself(trials):
    shared, target, enrol, test = trials
    eer = compare_systems(shared[None], shared[None] * 2, target, enrol, test, replicates=40)["eer"]
    assert eer.difference == 0
    assert eer.interval == pytest.approx((0, 0), abs=1e-12)
    assert eer.p_value > 0.5


def test_no_difference_is_seldom_called_one(trials):
    """Pairs of equally good systems: about one in twenty p-values below 0.05, hence hardly five of thirty."""
    _, target, enrol, test = trials
    p_values = [
        compare_systems(
            system(trials, 100 + k, 0.6)[None], system(trials, 200 + k, 0.6)[None], target, enrol, test, replicates=120
        )["eer"].p_value
        for k in range(30)
    ]
    assert sum(p < 0.05 for p in p_values) <= 4
    assert sum(p < 0.5 for p in p_values) >= 6  # nor are they always large


def test_seeds_that_differ_widen_the_interval(trials):
    """Seeds with different noise: resampling them says how much a mean over three tells about a fourth."""
    _, target, enrol, test = trials
    alike = np.stack([system(trials, 1, 0.5)] * 3)
    unlike = np.stack([system(trials, 1, 0.1), system(trials, 2, 0.8), system(trials, 3, 1.6)])
    narrow = compare_systems(alike, alike[:1], target, enrol, test, replicates=150)["eer"].interval
    wide = compare_systems(unlike, alike[:1], target, enrol, test, replicates=150)["eer"].interval
    assert wide[1] - wide[0] > 0.02
    assert narrow[1] - narrow[0] < 1e-9


def test_a_system_without_scores_is_refused(trials):
    shared, target, enrol, test = trials
    with pytest.raises(UserError, match="There are 1 sets of scores of A and 0 of B; valid: at least one of each"):
        compare_systems(shared[None], np.zeros((0, len(shared))), target, enrol, test)
