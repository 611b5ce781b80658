"""Statistics of a study on made-up scores (pairing, seeds, means over lists, Holm) agree with slow references."""

from itertools import combinations

import numpy as np
import pytest

from mqmha_jax.config import Config
from mqmha_jax.evaluation.metrics.bootstrap import bootstrap_interval, bootstrap_p_value
from mqmha_jax.evaluation.metrics.compare import compare_systems, draw_seeds
from mqmha_jax.evaluation.metrics.detection import equal_error_rate
from mqmha_jax.study import Budget, Control, Factor, Study, TrialList
from mqmha_jax.study.comparisons import (
    compare_by_factor,
    compare_with_controls,
    compare_with_reference,
    describe_comparison,
)
from mqmha_jax.study.effects import EER, MEAN, Measured, adjust_by_holm, estimate_effects, measure
from mqmha_jax.study.plan import Cell
from mqmha_jax.study.results import ListScores

REPLICATES = 400


def made_up(
    name: str, gains: dict[str, float], *, seeds: int = 3, speakers: int = 24, list_seed: int = 0
) -> ListScores:
    """Draws scores with a common difficulty of speakers and trials; a cell's gain raises its targets."""
    rng = np.random.default_rng(list_seed)
    owner = np.repeat(np.arange(speakers), 4)
    pairs = np.array([*combinations(range(len(owner)), 2)])
    enrol, test = owner[pairs].T
    target = enrol == test
    hardness = rng.normal(size=speakers)
    shared = np.where(target, 2.2 + 0.8 * hardness[enrol], 0.4 * hardness[test]) + rng.normal(size=len(target))
    scores = {}
    for cell, gain in gains.items():
        rows = [shared + gain * target + 0.3 * rng.normal(size=len(target)) for _ in range(seeds)]
        scores[cell] = np.stack(rows)
    return ListScores(name, target, enrol, test, scores)


@pytest.fixture(scope="module")
def lists() -> list[ListScores]:
    gains = {"a": 0.0, "b": 0.5, "c": 0.0}
    return [made_up("one", gains), made_up("two", gains, list_seed=7)]


@pytest.fixture(scope="module")
def measured(lists: list[ListScores]) -> list[Measured]:
    return measure(lists, mean=True, replicates=REPLICATES)


def test_two_cells_on_one_list_agree_with_compare_systems(lists: list[ListScores]) -> None:
    one = lists[0]
    pair = one._replace(scores={cell: one.scores[cell] for cell in ("a", "b")})
    ours = estimate_effects(measure([pair], mean=True, replicates=REPLICATES)[0], ["b"], ["a"])["eer"]
    theirs = compare_systems(
        one.scores["a"], one.scores["b"], one.target, one.enrol_speaker, one.test_speaker, replicates=REPLICATES
    )["eer"]
    assert ours.difference == pytest.approx(theirs.difference, abs=1e-12)
    assert ours.interval == pytest.approx(theirs.interval, abs=1e-12)
    assert ours.p_value == pytest.approx(theirs.p_value, abs=1e-12)


def test_a_mean_is_as_reliable_as_its_smallest_list() -> None:
    few, many = (made_up(name, {"a": 0.0}, seeds=1, speakers=size) for name, size in (("few", 10), ("many", 24)))
    assert [part.reliable for part in measure([few, many], mean=True, replicates=20)] == [False, True, False]
    assert [part.reliable for part in measure([many, many], mean=True, replicates=20)] == [True, True, True]


def test_the_mean_over_lists_is_a_bootstrap_within_each_list(lists: list[ListScores], measured: list[Measured]) -> None:
    """Agrees with one resample after another: each list draws its speakers, and all lists share the drawn seeds."""
    assert [part.name for part in measured] == ["one", "two", MEAN]
    draws = np.random.default_rng([0, 1])
    weights = {cell: draw_seeds(3, REPLICATES, draws) for cell in ("a", "b", "c")}
    counts = []
    for position in range(2):  # 24 speakers with four utterances: every resample has targets and nontargets
        rng = np.random.default_rng(position)
        counts.append(rng.multinomial(24, np.full(24, 1 / 24), REPLICATES))
    for replicate in range(5):
        slow = {
            cell: np.mean(
                [
                    weights[cell][replicate]
                    @ [resampled_eer(row, part, counts[position][replicate]) for row in part.scores[cell]]
                    for position, part in enumerate(lists)
                ]
            )
            for cell in ("a", "b", "c")
        }
        for cell, expected in slow.items():
            assert measured[2].resampled[cell][replicate, EER] == pytest.approx(expected, abs=1e-9)


def resampled_eer(scores: np.ndarray, part: ListScores, count: np.ndarray) -> float:
    """Every trial written out as often as the drawn speakers bring it."""
    enrol, test = count[part.enrol_speaker], count[part.test_speaker]
    times = np.where(part.target, enrol, enrol * test)
    return equal_error_rate(np.repeat(scores, times), np.repeat(part.target, times))


def test_a_mean_over_lists_is_no_more_certain_than_its_smallest_list_allows() -> None:
    small = made_up("small", {"a": 0.0, "b": 0.2}, speakers=8, list_seed=3)
    parts = measure([made_up("large", {"a": 0.0, "b": 0.2}), small], mean=True, replicates=REPLICATES)
    mean = parts[-1]
    assert (mean.num_speakers, mean.fewest_speakers) == (32, 8)
    difference = mean.estimates["b"].mean(axis=0) - mean.estimates["a"].mean(axis=0)
    resampled = mean.resampled["b"] - mean.resampled["a"]
    ours = estimate_effects(mean, ["b"], ["a"])["eer"]
    assert ours.interval == pytest.approx(tuple(bootstrap_interval(difference, resampled, 8)[EER]), abs=1e-12)
    assert ours.p_value == pytest.approx(bootstrap_p_value(difference, resampled, 8)[EER], abs=1e-12)
    low, high = bootstrap_interval(difference, resampled, 32)[EER]
    assert ours.smallest_shown > (high - low) / 2


def test_lists_are_drawn_differently() -> None:
    """Two copies of a list count as two, so the interval of their mean is shorter than that of one."""
    part = made_up("one", {"a": 0.0, "b": 0.1}, seeds=1)
    both = measure([part, part._replace(name="copy")], mean=True, replicates=400)
    alone, mean = (np.std(one.resampled["a"][:, EER]) for one in (both[0], both[2]))
    assert mean == pytest.approx(alone / np.sqrt(2), rel=0.15)


def test_seeds_widen_the_interval() -> None:
    part = made_up("one", {"a": 0.0, "b": 0.0})
    rng = np.random.default_rng(5)
    uneven = {cell: rows + part.target * rng.normal(0, 0.4, (3, 1)) for cell, rows in part.scores.items()}
    even = {cell: np.repeat(rows[:1], 3, axis=0) for cell, rows in uneven.items()}
    widths = [
        estimate_effects(measure([part._replace(scores=scores)], mean=True, replicates=400)[0], ["b"], ["a"])[
            "eer"
        ].smallest_shown
        for scores in (even, uneven)
    ]
    assert widths[1] > 1.5 * widths[0]


def test_holm_against_the_stepwise_procedure() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 9):
        p_values = np.round(rng.uniform(0, 0.2, size), 2).tolist()  # rounded: ties
        for level in (0.01, 0.05, 0.1, 0.3):
            rejected = set()
            for step, i in enumerate(sorted(range(size), key=p_values.__getitem__)):
                if p_values[i] * (size - step) > level:
                    break
                rejected.add(i)
            assert {i for i, p in enumerate(adjust_by_holm(p_values)) if p <= level} == rejected
    assert adjust_by_holm([]) == []
    assert adjust_by_holm([0.9, 0.8]) == [1.0, 1.0]


def study(**changes: object) -> Study:
    parts: dict[str, object] = {
        "question": "?",
        "base": Config(),
        "factors": (Factor("x", {"0": [], "1": []}), Factor("y", {"0": [], "1": [], "2": []})),
        "reference": "0+0",
        "seeds": (0, 1, 2),
        "train": "train",
        "lists": (TrialList("one.txt", "one"),),
        "budget": Budget(100, 1.0),
    }
    return Study(**{**parts, **changes})  # type: ignore[arg-type]


def test_a_factor_is_compared_over_cells_that_differ_only_in_it() -> None:
    gains = {"0+0": 0.0, "0+1": 0.3, "1+0": 0.5, "1+1": 0.9, "1+2": 0.1}
    (part,) = measure([made_up("one", gains)], mean=True, replicates=REPLICATES)
    found = compare_by_factor(part, study(cells=tuple(gains)), list(gains))
    ((x,), (y1, y2)) = found.values()
    assert (x.plus, x.minus) == (("1+0", "1+1"), ("0+0", "0+1"))
    assert (y1.plus, y1.minus) == (("0+1", "1+1"), ("0+0", "1+0"))
    assert (y2.plus, y2.minus) == (("1+2",), ("1+0",))
    eer = {cell: part.estimates[cell][:, EER].mean() for cell in gains}
    assert x.eer.difference == pytest.approx((eer["1+0"] + eer["1+1"] - eer["0+0"] - eer["0+1"]) / 2, abs=1e-12)
    resampled = sum(
        sign * part.resampled[cell][:, EER] / 2 for sign, side in ((1, x.plus), (-1, x.minus)) for cell in side
    )
    expected = bootstrap_interval(np.array([x.eer.difference]), resampled[:, None], 24)[0]
    assert x.eer.interval == pytest.approx(tuple(expected), abs=1e-12)
    assert [one.together for one in (x, y1, y2)] == [1, 2, 2]
    assert [y1.adjusted, y2.adjusted] == adjust_by_holm([y1.eer.p_value, y2.eer.p_value])


def test_sentences_say_what_the_study_shows_and_could_show(lists: list[ListScores], measured: list[Measured]) -> None:
    better, same = compare_with_reference(measured[2], ["a", "b", "c"], "a")
    assert better.verdict == "better"
    points = f"{-100 * better.eer.difference:.2f}"
    assert f"b against a: **better**, EER {points} points lower" in describe_comparison(better)
    assert "2 comparisons counted" in describe_comparison(better)
    assert same.verdict == "not distinguishable"
    smallest = f"{100 * same.eer.smallest_shown:.2f}"
    assert f"could not show a difference below about {smallest} points" in describe_comparison(same)
    turned = compare_with_reference(measured[2], ["a", "b", "c"], "b")
    assert [one.verdict for one in turned] == ["worse", "worse"]
    assert "points higher" in describe_comparison(turned[0])


def test_a_difference_that_holds_only_alone_is_marked(measured: list[Measured]) -> None:
    (alone, _) = compare_with_reference(measured[2], ["a", "b", "c"], "a")
    doubtful = alone._replace(
        effects={**alone.effects, "eer": alone.eer._replace(p_value=0.03)}, adjusted=0.09, together=3
    )
    assert doubtful.verdict == "not distinguishable"
    assert "a single comparison would count as a difference" in describe_comparison(doubtful)


def test_a_cell_is_compared_with_the_control_of_its_size(measured: list[Measured]) -> None:
    cells = [Cell("a", Config(), 10), Cell("b", Config(), 20), Cell("c", Config(), 20, control_of="b")]
    (comparison,) = compare_with_controls(measured[2], cells)
    assert (comparison.plus, comparison.minus) == (("b",), ("c",))
    assert Control("b", "a", "model.embedding_dim").name == "a-as-large-as-b"
