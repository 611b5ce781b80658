"""One training step: the same on one device and eight, in any row order; skipped when it is not finite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from mqmha_jax.config import Config
from mqmha_jax.config_io import with_overrides
from mqmha_jax.losses import build_loss
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.train import parallel, schedules
from mqmha_jax.train.optim import build_optimizer
from mqmha_jax.train.state import TrainState, initial_state
from mqmha_jax.train.step import build_train_step
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def experiment() -> tuple[Config, Any, TrainState]:
    # A gentle rate and scale: with large steps the choice of the nearest classes turns rounding into chaos.
    overrides = ["loss.scale=8", "optimizer.name=sgd", "optimizer.learning_rate=0.005"]
    config = with_overrides(tiny_config({}, steps=20), overrides)
    net = build_speaker_net(config.model)
    loss = build_loss(config.loss, num_speakers=8, embedding_dim=config.model.embedding_dim)
    rate = schedules.learning_rate(config.optimizer, 20)
    optimizer = build_optimizer(config.optimizer, rate)
    step = build_train_step(
        config,
        net=net,
        loss=loss,
        optimizer=optimizer,
        learning_rate=rate,
        margin_progress=schedules.margin_progress(config.loss, 20),
    )
    return config, step, initial_state(config, net, loss, optimizer)


def some_batch(step: int, rows: slice | np.ndarray = slice(None)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    batch = {
        "fbank": rng.normal(size=(8, 24, 8)).astype(np.float16),
        "num_frames": np.full(8, 24, np.int32),
        "speaker": rng.integers(0, 8, 8).astype(np.int32),
        "example": np.arange(8 * step, 8 * step + 8, dtype=np.uint32),
    }
    return {name: value[rows] for name, value in batch.items()}


def run(experiment: tuple[Config, Any, TrainState], devices: int, order: np.ndarray | None = None) -> TrainState:
    _, step, state = experiment
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    compiled = parallel.jit_step(step, mesh)
    state = parallel.replicate(jax.tree.map(jnp.copy, state), mesh)
    for number in range(5):
        rows = slice(None) if order is None else order
        state, _ = compiled(state, parallel.place_batch(some_batch(number, rows), mesh))
    return state


def assert_close(one: TrainState, other: TrainState) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_eight_devices_are_one_device_to_rounding(experiment: tuple[Config, Any, TrainState]) -> None:
    assert_close(run(experiment, 1), run(experiment, 8))


def test_the_row_order_of_a_batch_does_not_matter(experiment: tuple[Config, Any, TrainState]) -> None:
    """Masks are drawn per example: two hosts hold the same global set of examples in another order."""
    assert_close(run(experiment, 1), run(experiment, 1, order=np.array([3, 1, 7, 0, 2, 6, 5, 4])))


def test_the_same_step_twice_is_the_same_to_the_bit(experiment: tuple[Config, Any, TrainState]) -> None:
    for a, b in zip(jax.tree.leaves(run(experiment, 1)), jax.tree.leaves(run(experiment, 1)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_step_that_is_not_finite_changes_nothing_but_the_counters(
    experiment: tuple[Config, Any, TrainState],
) -> None:
    _, step, state = experiment
    batch = some_batch(0)
    batch["fbank"][3, 5, 2] = np.nan
    after, metrics = jax.jit(step)(state, batch)
    assert int(after.step) == int(state.step) + 1
    assert int(after.counters["skipped"]) == 1
    assert not np.isfinite(metrics["loss"])
    for part in ("params", "batch_stats", "opt_state"):
        old, new = jax.tree.leaves(getattr(state, part)), jax.tree.leaves(getattr(after, part))
        for a, b in zip(old, new, strict=True):
            np.testing.assert_array_equal(a, b)
