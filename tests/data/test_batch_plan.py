"""A plan holds every utterance once, in few shapes, and no cut of the utterances is cheaper."""

import math
from itertools import combinations

import numpy as np
import pytest

from mqmha_jax.data import batch_plan
from mqmha_jax.data.batch_plan import FRAMES_PER_SHAPE, MOST_SHAPES, PlannedBatch, padded_lengths, plan_batches
from mqmha_jax.errors import UserError


def frames(plan: list[PlannedBatch]) -> int:
    return sum(batch.batch_size * batch.num_frames for batch in plan)


def padding(lengths: np.ndarray, **options: int) -> float:
    """Frames of padding, as a share of the real ones."""
    return frames(plan_batches(lengths, **options)) / lengths.sum() - 1


def shapes(plan: list[PlannedBatch]) -> set[tuple[int, int]]:
    return {(batch.batch_size, batch.num_frames) for batch in plan}


def cloud(count: int, *, shortest: int = 50, mean: int = 300, seed: int = 0) -> np.ndarray:
    return (shortest + np.random.default_rng(seed).exponential(mean, count)).astype(np.int32)


def obvious_cost(lengths: np.ndarray, cut: tuple[int, ...], budget: int) -> int:
    """Frames of the batches plus the cost of their shapes, with one group below each padded length of ``cut``."""
    cost = 0
    for low, high in zip((0, *cut[:-1]), cut, strict=True):
        own, most = int(np.count_nonzero((lengths > low) & (lengths <= high))), max(1, budget // high)
        rows = math.ceil(own / math.ceil(own / most))  # batches of one size
        while len(f"{rows:b}".rstrip("0")) > 4:
            rows += 1
        cost += math.ceil(own / min(rows, most)) * min(rows, most) * high + FRAMES_PER_SHAPE
    return cost


@pytest.mark.parametrize("seed", range(6))
def test_no_cut_is_cheaper(seed: int) -> None:
    """Compares with all cuts of lists with few lengths."""
    rng = np.random.default_rng(seed)
    series = padded_lengths(3000)
    lengths = rng.choice(series[rng.choice(len(series), 7, replace=False)], 150)
    terms = np.unique(lengths).tolist()
    cuts = [(*inner, terms[-1]) for k in range(len(terms)) for inner in combinations(terms[:-1], k)]
    plan = plan_batches(lengths, frames_per_batch=8000, max_frames=3000)
    cheapest = min(obvious_cost(lengths, cut, 8000) for cut in cuts)
    assert frames(plan) + FRAMES_PER_SHAPE * len({batch.num_frames for batch in plan}) == cheapest


@pytest.mark.parametrize("batch_multiple", [1, 3, 8])
def test_every_utterance_is_in_one_batch_that_holds_it(batch_multiple: int) -> None:
    lengths = np.append(cloud(700), [1, 14_000])
    plan = plan_batches(lengths, batch_multiple=batch_multiple)
    assert sorted(np.concatenate([batch.indices for batch in plan]).tolist()) == list(range(702))
    assert len(shapes(plan)) == len({batch.num_frames for batch in plan}) <= MOST_SHAPES
    for batch in plan:
        assert np.minimum(lengths[batch.indices], 12_000).max() <= batch.num_frames
        assert len(batch.indices) <= batch.batch_size
        assert batch.batch_size % batch_multiple == 0
        assert batch.batch_size * batch.num_frames <= 25_600 or batch.batch_size == batch_multiple


def test_few_shapes_need_little_padding() -> None:
    """Lengths as in VoxCeleb1: 4 s to 145 s, 8.2 s on average."""
    lengths = np.minimum(cloud(20_000, shortest=400, mean=420), 14_500)
    for count, most in ((20_000, 0.14), (4_708, 0.15), (100, 0.2), (1, 0.1)):
        part = lengths[:count]
        assert padding(part, max_frames=14_500) < most
        assert len(shapes(plan_batches(part, max_frames=14_500))) <= MOST_SHAPES
    assert padding(lengths) > 0.02  # the check is not empty


def test_a_handful_of_files_is_one_batch() -> None:
    assert shapes(plan_batches(np.array([310, 470, 350]))) == {(3, 480)}


def test_lengths_and_sizes_do_not_depend_on_other_utterances() -> None:
    series = padded_lengths(12_000).tolist()
    assert series == sorted(set(series))
    assert len(series) < 65
    assert (series[0], series[-1]) == (40, 12_000)
    seen = set()
    for count in range(1, 300, 8):
        found = shapes(plan_batches(cloud(count, seed=count)))
        assert {num_frames for _, num_frames in found} <= set(series)
        seen |= found
    assert all(len(f"{rows:b}".rstrip("0")) <= 4 or rows == 25_600 // length for rows, length in seen)


def test_equal_lengths_make_equal_plans_on_any_machine() -> None:
    lengths = cloud(500)
    for one, other in zip(plan_batches(lengths), plan_batches(lengths.astype(np.int64)), strict=True):
        assert one[:2] == other[:2]
        np.testing.assert_array_equal(one.indices, other.indices)


def test_shapes_are_bounded_even_if_more_would_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = cloud(5_000, mean=1_000)
    many = padding(lengths)
    monkeypatch.setattr(batch_plan, "MOST_SHAPES", 3)
    assert len(shapes(plan_batches(lengths))) == 3
    assert padding(lengths) > 2 * many


def test_no_utterances_make_no_batches() -> None:
    assert plan_batches(np.array([], np.int32)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames_per_batch": 0}, "frames_per_batch is 0; it must be at least 1"),
        ({"max_frames": 0}, "max_frames is 0; it must be at least 1"),
        ({"batch_multiple": 0}, "batch_multiple is 0; it must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_batches(np.array([5]), **options)


def test_an_utterance_without_frames_is_named() -> None:
    with pytest.raises(UserError, match="Utterance 2 of the source has no frames"):
        plan_batches(np.array([5, 6, 0]))
