"""Error rates of a stream equal those of the list in memory to the last bit, ties, signs and pruning included."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation import streaming
from mqmha_jax.evaluation.metrics.detection import detection_curve
from mqmha_jax.evaluation.streaming import npz_chunks, streaming_detection_curve

COSTS = ((0.01, 1.0, 1.0), (0.3, 2.0, 1.0))


def in_chunks(scores, target, size):
    """The list in parts, from the beginning at every call."""
    return lambda: ((scores[i : i + size], target[i : i + size]) for i in range(0, len(scores), size))


def check_equal(scores, target, size):
    whole, stream = detection_curve(scores, target), streaming_detection_curve(in_chunks(scores, target, size), COSTS)
    assert stream.equal_error_rate() == whole.equal_error_rate()
    for cost in COSTS:
        assert stream.min_dcf(*cost) == whole.min_dcf(*cost)
    # Every point is one of the list: what its threshold decides is what it says.
    for threshold, miss, false_alarm in list(zip(*stream, strict=True))[:: 1 + len(stream.miss) // 200]:
        assert miss == np.mean(scores[target] < threshold)
        assert false_alarm == pytest.approx(np.mean(scores[~target] >= threshold), abs=1e-15)


# A few numbers that only their last bits tell apart, both zeros, and extremes.
numbers = st.sampled_from([-1e30, -1.0, -1e-30, -0.0, 0.0, 0.5, 0.5 + 1e-7, 0.5 + 1e-15, 0.5 + 2e-15, 1.0, 3e8])
lists = st.lists(st.tuples(numbers, st.booleans()), min_size=2, max_size=60).filter(
    lambda trials: len({target for _, target in trials}) == 2
)


@settings(deadline=None, max_examples=100)
@given(lists, st.sampled_from([np.float32, np.float64]), st.integers(1, 20), st.sampled_from([5, 12]))
def test_equals_the_list_in_memory_with_heavy_ties(trials, dtype, size, first_bits):
    """With few bits in the first reading, so that there are many readings."""
    with mock.patch.object(streaming, "_FIRST_BITS", first_bits):
        check_equal(np.array([score for score, _ in trials], dtype), np.array([target for _, target in trials]), size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_list_in_memory_where_scores_are_dense(dtype, monkeypatch):
    """Many scores in each bin of the first reading, and more bins to look into than one reading takes."""
    monkeypatch.setattr(streaming, "_BINS_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    target = rng.random(20_000) < 0.4
    scores = (rng.normal(size=20_000) * 1e-3 + 0.5 + 2e-3 * target).astype(dtype)
    check_equal(scores, target, 7_000)
    assert len(streaming_detection_curve(in_chunks(scores, target, 7_000), COSTS).miss) < 10_000


def test_number_of_readings_and_points_is_bounded():
    rng = np.random.default_rng(1)
    target = rng.random(200_000) < 0.5
    scores = (rng.normal(size=200_000) * 0.1 + 0.2 * target).astype(np.float32)
    readings = []

    def chunks():
        readings.append(1)
        return in_chunks(scores, target, 50_000)()

    curve = streaming_detection_curve(chunks)
    assert len(readings) == 3  # one looks at the type only, then two
    assert len(curve.threshold) < 60_000
    assert curve.equal_error_rate() == detection_curve(scores, target).equal_error_rate()


def test_reads_archives(tmp_path):
    scores, target = np.array([0.1, 0.4, 0.3, 0.9]), np.array([0, 0, 1, 1])
    for i in range(2):
        np.savez(tmp_path / f"{i}.npz", scores=scores[i::2], target=target[i::2])
    curve = streaming_detection_curve(npz_chunks([tmp_path / "0.npz", tmp_path / "1.npz"]))
    assert curve.equal_error_rate() == detection_curve(scores, target).equal_error_rate()
    np.savez(tmp_path / "1.npz", scores=scores)
    with pytest.raises(UserError, match=r"1\.npz: no scores can be read .*; valid: npz with scores and target"):
        streaming_detection_curve(npz_chunks([tmp_path / "0.npz", tmp_path / "1.npz"]))


GOOD = (np.array([0.1, 0.2]), np.array([True, False]))


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([], "There are no scores"),
        ([(np.array([0.5]), np.array([True]))], "only target trials; error rates need"),
        ([(np.array([0.5]), np.array([False]))], "only nontarget trials"),
        ([(np.zeros(0), np.zeros(0, bool))], "The list has no trials"),
        ([GOOD, (np.array([0.5, np.nan]), GOOD[1])], "Score 2 of chunk 2 is nan"),
        ([GOOD, (np.array([0.5]), GOOD[1])], r"Chunk 2 has scores \(1,\) and targets \(2,\)"),
        ([GOOD, (GOOD[0].astype(np.float32), GOOD[1])], "Chunk 2 has scores of type float32, the first has float64"),
        ([(np.array([1, 2]), GOOD[1])], "The scores have type int64; valid: float32 or float64"),
        ([(GOOD[0], np.array([0, 3]))], "Chunk 1: target has other values than 0 and 1"),
    ],
)
def test_streams_that_can_not_be_measured_are_refused(chunks, message):
    with pytest.raises(UserError, match=message):
        streaming_detection_curve(lambda: chunks)


def test_a_generator_that_is_used_up_is_refused():
    scores = np.full(4, 0.5)
    once = iter([(scores, np.array([True, False, True, False]))] * 3)
    with pytest.raises(UserError, match=r"had 8 scores at the first reading and 0 at a later one; chunks must be"):
        streaming_detection_curve(lambda: once)
    with pytest.raises(UserError, match=r"p_target is 2\.0"):
        streaming_detection_curve(lambda: [GOOD], [(2.0, 1.0, 1.0)])
