"""Error rates equal worked numbers and brute force over every threshold, ties included."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.detection import (
    act_dcf,
    bayes_threshold,
    cllr,
    detection_curve,
    equal_error_rate,
    min_cllr,
    min_dcf,
)
from tests.support.paths import REFERENCE

DATA = REFERENCE / "scoring.npz"


def brute_force_points(scores, target):
    """(threshold, miss, false alarm) of every threshold that decides differently, by counting."""
    return [
        (threshold, np.mean(scores[target] < threshold), np.mean(scores[~target] >= threshold))
        for threshold in [*sorted(set(scores.tolist())), np.inf]
    ]


def brute_force_eer(scores, target):
    """Walk up the thresholds until misses overtake false alarms; cross the two straight lines there."""
    points = brute_force_points(scores, target)
    for (_, miss, fa), (_, next_miss, next_fa) in itertools.pairwise(points):
        if next_miss >= next_fa:
            share = (fa - miss) / ((fa - miss) + (next_miss - next_fa))
            return miss + share * (next_miss - miss)
    raise AssertionError("at infinity everything is missed")


def check_reference(path):
    archive = np.load(path, allow_pickle=False)
    cases = sorted({name.split("/")[1] for name in archive.files if name.startswith("detection/")})
    assert cases
    for case in cases:
        scores, target = archive[f"detection/{case}/scores"], archive[f"detection/{case}/target"]
        assert equal_error_rate(scores, target) == pytest.approx(float(archive[f"detection/{case}/eer"]), abs=1e-12)
        assert cllr(scores, target) == pytest.approx(float(archive[f"detection/{case}/cllr"]), abs=1e-12)
        for p_target in (0.05, 0.01, 0.001):
            expected = float(archive[f"detection/{case}/min_dcf_{p_target}"])
            assert min_dcf(scores, target, p_target) == pytest.approx(expected, abs=1e-12)


def test_worked_numbers():
    check_reference(DATA)


def test_all_worked_numbers(reference_dir):
    check_reference(reference_dir / "scoring.npz")


# Few distinct values make ties within and across the classes the rule.
tied_lists = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=60).filter(
    lambda trials: len({target for _, target in trials}) == 2
)


@settings(deadline=None, max_examples=150)
@given(tied_lists, st.sampled_from([np.float32, np.float64]), st.floats(0.001, 0.999))
def test_equals_brute_force_with_heavy_ties(trials, dtype, p_target):
    scores, target = np.array([score for score, _ in trials], dtype), np.array([target for _, target in trials])
    points = np.array(brute_force_points(scores, target))
    curve = detection_curve(scores, target)
    np.testing.assert_array_equal(np.stack(curve, axis=1), points)
    assert curve.equal_error_rate() == pytest.approx(brute_force_eer(scores, target), abs=1e-12)
    costs = [(p_target * miss + (1 - p_target) * fa) / min(p_target, 1 - p_target) for _, miss, fa in points]
    assert curve.min_dcf(p_target) == pytest.approx(min(costs), abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(tied_lists, st.sampled_from([0.01, 0.5, 0.9]), st.sampled_from([1.0, 3.0]))
def test_costs_of_calibrated_scores_equal_brute_force(trials, p_target, c_miss):
    """Decisions at the Bayes threshold, counted; Cllr trial by trial; the best monotone map by its min-max formula."""
    llr, target = np.array([score for score, _ in trials], np.float64), np.array([target for _, target in trials])
    threshold = np.log((1 - p_target) / (c_miss * p_target))
    weights = c_miss * p_target, 1 - p_target
    cost = weights[0] * np.mean(llr[target] < threshold) + weights[1] * np.mean(llr[~target] >= threshold)
    assert act_dcf(llr, target, p_target, c_miss) == pytest.approx(cost / min(weights), abs=1e-12)
    bits = np.where(target, np.log2(1 + np.exp(-llr)), np.log2(1 + np.exp(llr)))
    assert cllr(llr, target) == pytest.approx((bits[target].mean() + bits[~target].mean()) / 2, abs=1e-12)

    values = sorted(set(llr.tolist()))
    mass = [(np.mean(llr[target] == value), np.mean(llr[~target] == value)) for value in values]

    def share(first, last):
        targets, nontargets = np.sum(mass[first : last + 1], axis=0)
        return targets / (targets + nontargets)

    best = 0.0
    for k, (targets, nontargets) in enumerate(mass):
        q = max(min(share(i, j) for j in range(k, len(mass))) for i in range(k + 1))
        best -= (targets * np.log2(q) if targets else 0) + (nontargets * np.log2(1 - q) if nontargets else 0)
    assert min_cllr(llr, target) == pytest.approx(best / 2, abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(tied_lists, st.data())
def test_an_integer_weight_is_that_many_copies(trials, data):
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(trials), max_size=len(trials))))
    scores, target = np.array([float(score) for score, _ in trials]), np.array([target for _, target in trials])
    assume(weights[target].any() and weights[~target].any())
    weighted = detection_curve(scores, target, weights)
    copied = detection_curve(np.repeat(scores, weights), np.repeat(target, weights))
    assert weighted.equal_error_rate() == pytest.approx(copied.equal_error_rate(), abs=1e-12)
    assert weighted.min_dcf(0.1) == pytest.approx(copied.min_dcf(0.1), abs=1e-12)
    assert weighted.act_dcf(0.3) == pytest.approx(copied.act_dcf(0.3), abs=1e-12)
    assert weighted.cllr() == pytest.approx(copied.cllr(), abs=1e-12)
    assert weighted.min_cllr() == pytest.approx(copied.min_cllr(), abs=1e-12)
    scaled = detection_curve(scores, target, weights * np.where(target, 0.1, 7.3))  # classes count by themselves
    np.testing.assert_allclose(scaled.miss, weighted.miss, atol=1e-12)
    np.testing.assert_allclose(scaled.false_alarm, weighted.false_alarm, atol=1e-12)


def test_minima_bound_the_actual_costs_and_ignore_monotone_maps():
    rng = np.random.default_rng(0)
    target = rng.random(3000) < 0.3
    llr = 3 * (rng.normal(size=3000) + 3 * target) - 4.5
    assert min_cllr(llr, target) <= cllr(llr, target) < min_cllr(llr, target) + 0.02
    assert min_cllr(np.exp(llr / 9), target) == pytest.approx(min_cllr(llr, target), abs=1e-12)
    assert cllr(llr + 3, target) > cllr(llr, target) + 0.05
    assert min_dcf(llr, target, 0.05) <= act_dcf(llr, target, 0.05) < act_dcf(llr + 3, target, 0.05)
    assert bayes_threshold(0.01) == pytest.approx(np.log(99))
    assert bayes_threshold(0.01, c_miss=99.0) == pytest.approx(0)
    worst = np.where(target, -800.0, 800.0)  # no overflow
    assert cllr(worst, target) == pytest.approx(800 / np.log(2))


@settings(deadline=None, max_examples=150)
@given(tied_lists)
def test_threshold_decides_as_well_as_the_better_point_beside_the_equal_error_rate(trials):
    scores, target = np.array([float(score) for score, _ in trials]), np.array([target for _, target in trials])
    threshold = detection_curve(scores, target).equal_error_threshold()
    worse = max(np.mean(scores[target] < threshold), np.mean(scores[~target] >= threshold))
    finite = brute_force_points(scores, target)[:-1]
    assert worse == min(max(miss, fa) for _, miss, fa in finite)


def test_order_of_trials_and_monotone_maps_do_not_matter():
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=500).round(1), rng.random(500) < 0.2
    order = rng.permutation(500)
    eer = equal_error_rate(scores, target)
    assert 0.3 < eer < 0.7  # scores say nothing about the target
    assert equal_error_rate(scores[order], target[order]) == eer
    assert equal_error_rate(np.exp(scores / 5), target) == pytest.approx(eer, abs=1e-12)


def test_perfect_reversed_and_constant_scores():
    target = np.array([True, True, False, False])
    perfect = np.array([2.0, 3.0, -1.0, 0.0])
    assert equal_error_rate(perfect, target) == 0
    assert min_dcf(perfect, target, 0.01) == 0
    assert detection_curve(perfect, target).equal_error_threshold() == 1.0  # midway between the classes
    assert equal_error_rate(-perfect, target) == 1
    constant = np.zeros(4)
    assert equal_error_rate(constant, target) == 0.5
    assert min_dcf(constant, target, 0.01) == 1
    assert detection_curve(constant, target).equal_error_threshold() == 0
    assert cllr(constant, target) == pytest.approx(1)


def test_costs_weigh_the_two_errors():
    scores, target = np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, True, False, True])
    # Operating points (miss, false alarm): (0, 1), (0, .5), (.5, .5), (.5, 0), (1, 0).
    assert min_dcf(scores, target, 0.5) == 0.5
    assert min_dcf(scores, target, 0.5, c_miss=10.0) == 0.5  # accept the middle nontarget: 1 * 0.5 / 1
    assert min_dcf(scores, target, 0.5, c_fa=10.0) == 0.5  # miss the middle target: 1 * 0.5 / 1
    assert min_dcf(scores, target, 0.75) == pytest.approx(0.5)


def test_zero_and_one_serve_as_booleans():
    scores = np.array([0.1, 0.4, 0.3, 0.9])
    assert equal_error_rate(scores, np.array([0, 0, 1, 1])) == equal_error_rate(
        scores, np.array([False, False, True, True])
    )


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        ([0.1, 0.2, 0.3], [True, False], "3 scores for 2 trials; valid: one score for each trial"),
        ([0.1, np.nan], [True, False], r"1 of 2 scores are not finite, first trial 2 \(nan\)"),
        ([np.inf, 0.0], [True, False], r"first trial 1 \(inf\)"),
        ([0.1, 0.2], [True, True], r"only target trials \(2\); error rates need at least one target and one nontarget"),
        ([0.1], [False], r"only nontarget trials \(1\)"),
        ([], np.zeros(0, bool), "no trials"),
        ([0.1, 0.2], [0, 2], "other values than 0 and 1; valid: booleans"),
    ],
)
def test_lists_that_cannot_be_measured_are_refused(scores, target, message):
    for measure in (equal_error_rate, cllr):
        with pytest.raises(UserError, match=message):
            measure(np.array(scores, np.float64), np.array(target))


def test_impossible_prior_and_costs_are_refused():
    scores, target = np.array([0.0, 1.0]), np.array([False, True])
    with pytest.raises(UserError, match=r"p_target is 1\.5; valid: a probability between 0 and 1"):
        min_dcf(scores, target, 1.5)
    with pytest.raises(UserError, match=r"c_miss=0.0 and c_fa=1.0; .*positive"):
        min_dcf(scores, target, 0.5, c_miss=0.0)


def test_impossible_weights_are_refused():
    scores, target = np.array([0.0, 1.0, 2.0]), np.array([False, True, True])
    for weights, message in (
        ([1.0, 1.0], "2 weights for 3 trials; valid: one weight for each trial"),
        ([1.0, np.nan, 1.0], "weight of trial 2 is nan; valid: finite, not negative"),
        ([1.0, 1.0, -1.0], r"weight of trial 3 is -1\.0"),
        ([1.0, 0.0, 0.0], "All target trials have weight 0"),
        ([0.0, 1.0, 0.0], "All nontarget trials have weight 0"),
    ):
        with pytest.raises(UserError, match=message):
            detection_curve(scores, target, np.array(weights))


def test_lists_of_numbers_are_as_good_as_arrays():
    assert equal_error_rate([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0]) == 0.5
    assert equal_error_rate((2, 1), (True, False)) == 0
    assert min_dcf([0.9, 0.1], [True, False], 0.01) == 0
    assert detection_curve([0.9, 0.1, 0.5], [1, 0, 0], [1, 2, 0.5]).equal_error_rate() == 0
    for scores, target, message in (
        (["0.9", "0.1"], [1, 0], "The scores have type <U3; valid: numbers"),
        ([[0.9, 0.1], [0.2]], [1, 0], "The scores do not form an array"),
        ([[0.9, 0.1]], [[1, 0]], r"The scores have shape \(1, 2\); valid: one dimension"),
        ([0.9, 0.1], ["target", "nontarget"], "The targets have type <U9; valid: numbers"),
        ([0.9, 0.1, 0.2], [1, 0], "There are 3 scores for 2 trials"),
        ([], [], "The list has no trials"),
    ):
        with pytest.raises(UserError, match=message):
            equal_error_rate(scores, target)
