"""An obvious search over all pairs and trials confirms that the report names the worst ones."""

from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import binomtest

from mqmha_jax.evaluation.report.html.confusions import (
    count_changed_decisions,
    find_confused_pairs,
    find_hardest_trials,
)
from tests.support.evaluations import simulate, system_scores


@pytest.fixture(scope="module")
def evaluation():
    return simulate()[0]


def obvious_pairs(evaluation, system):
    """All pairs of speakers with a false alarm, worst first: by SciPy's Wilson interval, then by mean score."""
    scores = defaultdict(list)
    sides = zip(evaluation.enrol_speaker, evaluation.test_speaker, system.scores, strict=True)
    for enrol, test, score in sides:
        if enrol != test:
            scores[tuple(sorted((enrol, test)))].append(score)
    found = []
    for speakers, own in scores.items():
        accepted = sum(score >= system.threshold for score in own)
        lower = binomtest(accepted, len(own)).proportion_ci(method="wilson").low
        if accepted:
            found.append((-round(lower, 4), -np.mean(own), speakers, len(own), accepted, max(own)))
    return sorted(found)


def test_confused_pairs_are_the_worst(evaluation):
    system = evaluation.systems[0]
    expected = obvious_pairs(evaluation, system)[:7]
    found = find_confused_pairs(evaluation, system, 7)
    assert [pair.speakers for pair in found] == [row[2] for row in expected]
    for pair, (_, mean, _, num_trials, accepted, highest) in zip(found, expected, strict=True):
        assert (pair.num_trials, pair.num_accepted) == (num_trials, accepted)
        assert pair.mean_score == pytest.approx(-mean)
        assert pair.highest_score == pytest.approx(highest)


def test_a_pair_with_a_single_trial_does_not_lead(evaluation):
    speakers = ("a",) * 101 + ("c",) + ("t",)
    others = ("b",) * 101 + ("d",) + ("t",)
    target = np.array([False] * 102 + [True])
    scores = np.array([1.0] * 90 + [0.0] * 11 + [1.0, 1.0])
    system = system_scores("one", scores, target)._replace(threshold=0.5)
    few = evaluation._replace(
        trials=evaluation.trials._replace(target=target), enrol_speaker=speakers, test_speaker=others
    )
    assert [pair.speakers for pair in find_confused_pairs(few, system, 5)] == [("a", "b"), ("c", "d")]


def test_unknown_speakers_make_no_pairs(evaluation):
    assert find_confused_pairs(evaluation._replace(enrol_speaker=None), evaluation.systems[0], 5) == []


def test_hardest_trials_are_sorted_with_ties_in_order(evaluation):
    system = evaluation.systems[0]
    coarse = system._replace(scores=np.round(system.scores, 1))  # heavy ties
    target = evaluation.trials.target
    for count in (1, 13, 10**6):
        found = find_hardest_trials(evaluation, coarse, count)
        by_score = sorted(range(len(target)), key=lambda i: (coarse.scores[i], i))
        assert found.targets.tolist() == [i for i in by_score if target[i]][:count]
        by_score = sorted(range(len(target)), key=lambda i: (-coarse.scores[i], i))
        assert found.nontargets.tolist() == [i for i in by_score if not target[i]][:count]


def test_changed_decisions_are_counted(evaluation):
    before, after = evaluation.systems[:2]
    changes = count_changed_decisions(evaluation, before, after)
    expected = {"mended": 0, "spoiled": 0, "both_wrong": 0}
    for target, first, second in zip(evaluation.trials.target, before.scores, after.scores, strict=True):
        was, now = (first >= before.threshold) == target, (second >= after.threshold) == target
        expected["mended"] += now and not was
        expected["spoiled"] += was and not now
        expected["both_wrong"] += not (was or now)
    assert changes._asdict() == expected
    assert min(expected.values()) > 0
