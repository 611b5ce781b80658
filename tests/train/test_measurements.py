"""Means of the measurements between two lines of the log."""

import tracemalloc

import numpy as np

from mqmha_jax.train.measurements import StepMeans


def measured(loss: float, skipped_in_row: int = 0) -> dict[str, np.ndarray]:
    values = {"loss": loss, "learning_rate": 0.1 * loss, "skipped_in_row": skipped_in_row}
    return {name: np.asarray(value, np.float32) for name, value in values.items()}


def test_means_leave_out_skipped_steps_and_begin_anew_with_each_line() -> None:
    means = StepMeans()
    for loss, skipped in ((1.0, 0), (3.0, 0), (np.nan, 1)):
        means.add(measured(loss, skipped))
    first = means.take()
    assert first["loss"] == 2
    assert np.isnan(first["learning_rate"]), "the latest"
    assert first["skipped_in_row"] == 1
    means.add(measured(np.nan, 2))
    assert np.isnan(means.take()["loss"]), "no finite step"
    means.add(measured(5.0))
    assert means.take()["loss"] == 5


def test_a_rare_line_needs_no_memory_for_the_steps_before_it() -> None:
    means = StepMeans()
    means.add(measured(0.0))
    tracemalloc.start()
    for step in range(10_000):
        means.add(measured(float(step)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    assert means.take()["loss"] == np.mean(np.arange(10_000)) * 10_000 / 10_001
