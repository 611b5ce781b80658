"""Metadata divide trials into conditions, and each condition has the error rates of its own trials."""

import numpy as np
import pytest

from mqmha_jax.data.metadata import Column
from mqmha_jax.evaluation.metrics.detection import equal_error_rate
from mqmha_jax.evaluation.report.html.conditions import MIN_TRIALS, group_trials, measure_conditions
from tests.support.evaluations import simulate, words


def named(grouping):
    return [grouping.names[i] for i in grouping.group]


def test_few_words_are_paired_in_any_order():
    grouping = group_trials(words(["male", "female", "female", "male"], ["female", "male", "female", ""]))
    assert named(grouping) == ["female / male", "female / male", "female / female", "unknown"]
    assert grouping.names[-1] == "unknown"
    assert "male / male" not in grouping.names  # no trials


def test_many_words_are_same_or_different():
    sessions = [f"session{i}" for i in range(6)]
    assert named(group_trials(words(sessions, sessions[1:] + sessions[:1]))) == ["different"] * 6
    assert named(group_trials(words(sessions, [*sessions[:5], ""]))) == ["same"] * 5 + ["unknown"]


def test_numbers_are_divided_at_quartiles_of_the_smaller_side():
    rng = np.random.default_rng(0)
    enrol, test = rng.uniform(1, 30, (2, 1_000))
    enrol[7] = np.nan
    grouping = group_trials(Column(enrol, test, None))
    assert grouping.names[-1] == "unknown"
    assert named(grouping)[7] == "unknown"
    counts = np.bincount(grouping.group)[:-1]
    assert len(counts) == 4
    assert counts.min() > 200  # edges are rounded to two digits
    limits = [float(word) for word in grouping.names[1].split(" to ")]
    for name, smaller in zip(named(grouping), np.minimum(enrol, test), strict=True):
        assert (name == grouping.names[1]) == (limits[0] <= smaller < limits[1])


def test_few_numbers_are_conditions_by_themselves():
    column = Column(np.array([1.0, 3.0, 5.0, 3.0]), np.array([5.0, 3.0, 5.0, 1.0]), None)
    assert named(group_trials(column)) == ["1", "3", "5", "1"]


@pytest.mark.parametrize(
    "column",
    [
        Column(np.full(3, 2.05), np.full(3, 2.05), None),
        Column(np.full(3, np.nan), np.full(3, np.nan), None),
        words(["cell"] * 3, ["cell"] * 3),
        words([""] * 3, [""] * 3),
    ],
)
def test_a_constant_column_is_one_condition(column):
    assert len(group_trials(column).names) == 1


def test_rates_use_the_trials_of_the_condition():
    evaluation, _ = simulate()
    conditions = measure_conditions(evaluation, group_trials(evaluation.attributes["gender"]))
    assert [condition.name for condition in conditions] == ["female / female", "female / male", "male / male"]
    target = evaluation.trials.target
    for condition, kind in zip(conditions, ({"female"}, {"female", "male"}, {"male"}), strict=True):
        members = np.array([set(evaluation.attributes["gender"].of(trial)) == kind for trial in range(len(target))])
        assert condition.num_targets == np.count_nonzero(members & target)
        assert condition.num_nontargets == np.count_nonzero(members & ~target)
        assert condition.num_speakers == (24 if len(kind) == 2 else 12)
        for rates, system in zip(condition.rates, evaluation.systems, strict=True):
            false_alarm = np.mean(system.scores[members & ~target] >= system.threshold)
            assert rates.false_alarm == pytest.approx(false_alarm)
            if len(kind) == 1:
                assert rates.eer == equal_error_rate(system.scores[members], target[members])
                assert rates.miss == pytest.approx(np.mean(system.scores[members & target] < system.threshold))
    mixed = conditions[1].rates[0]
    assert (mixed.eer, mixed.miss) == (None, None)  # no one has two genders: no targets


def test_too_few_trials_have_no_rates():
    evaluation, _ = simulate(num_speakers=20)
    target = evaluation.trials.target
    column = np.full(len(target), "common")
    column[np.flatnonzero(target)[: MIN_TRIALS - 1]] = "rare"
    column[np.flatnonzero(~target)[:MIN_TRIALS]] = "rare"
    conditions = measure_conditions(evaluation, group_trials(words(column.tolist(), column.tolist())))
    of_rare = next(condition for condition in conditions if condition.name == "rare / rare")
    assert of_rare.num_targets == MIN_TRIALS - 1
    assert all(rates.eer is None and rates.miss is None for rates in of_rare.rates)
    assert all(rates.false_alarm is not None for rates in of_rare.rates)


def test_unknown_speakers_are_not_counted():
    evaluation = simulate()[0]._replace(enrol_speaker=None, test_speaker=None)
    conditions = measure_conditions(evaluation, group_trials(evaluation.attributes["seconds"]))
    assert [condition.num_speakers for condition in conditions] == [None] * 4
