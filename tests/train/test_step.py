"""One training step: equal on one device and eight, in any row order and layout; skipped if it is not finite."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax import parallel
from mqmha_jax.config import Config, MeshConfig
from mqmha_jax.config_io import with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.runs.state import TrainState
from mqmha_jax.train.build import Training, build_training
from tests.support.tiny import tiny_config

SPEAKERS = 8
DOUBLE = ["model.compute_dtype=float64"]
NO_MASKS = ["spec_augment.num_time_masks=0", "spec_augment.num_frequency_masks=0"]


def gentle(*overrides: str) -> Config:
    """A gentle rate and scale: with large steps, rounding changes which classes are nearest, and runs diverge."""
    common = ["loss.scale=8", "optimizer.name=sgd", "optimizer.learning_rate=0.005"]
    return with_overrides(tiny_config({}, steps=60), [*common, *overrides])


def built(config: Config, devices: int = 8) -> Training:
    mesh = parallel.device_mesh(config.mesh, jax.devices()[:devices])
    return build_training(config, num_speakers=SPEAKERS, mesh=mesh)


def some_batch(step: int, rows: slice | np.ndarray = slice(None)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    batch = {
        "fbank": rng.normal(size=(8, 24, 8)).astype(np.float16),
        "num_frames": np.full(8, 24, np.int32),
        "speaker": rng.integers(0, 8, 8).astype(np.int32),
        "example": np.arange(8 * step, 8 * step + 8, dtype=np.uint32),
    }
    return {name: value[rows] for name, value in batch.items()}


def first_state(training: Training) -> TrainState:
    return training.init(parallel.place_seed(0, training.mesh))


def one_step(training: Training, state: TrainState, batch: dict[str, np.ndarray]) -> tuple[TrainState, dict[str, Any]]:
    seed = parallel.place_seed(0, training.mesh)
    return training.step(state, parallel.place_batch(batch, training.mesh), seed)


def run(training: Training, steps: int = 5, order: np.ndarray | slice = slice(None)) -> TrainState:
    state = first_state(training)
    for number in range(steps):
        state, _ = one_step(training, state, some_batch(number, order))
    return state


def assert_close(one: TrainState, other: TrainState, **tolerance: float) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 1e-4, "atol": 2e-5}))


@pytest.fixture(scope="module")
def one_device() -> Training:
    return built(gentle(), devices=1)


@pytest.fixture(scope="module")
def after_five(one_device: Training) -> TrainState:
    return run(one_device)


LAYOUTS = {
    "data": MeshConfig(),
    "model": MeshConfig(data=1, model=-1),
    "data x model, chunked": MeshConfig(data=4, model=2, class_chunk=32),
}


# The layout that joins the other two; the slow tests have them alone.
JOINED_LAYOUT = [*(pytest.param(name, marks=pytest.mark.slow) for name in list(LAYOUTS)[:-1]), list(LAYOUTS)[-1]]


@pytest.mark.parametrize("layout", JOINED_LAYOUT)
def test_eight_devices_are_one_device_to_rounding(layout: str, after_five: TrainState) -> None:
    overrides = [f"mesh.{name}={value}" for name, value in vars(LAYOUTS[layout]).items()]
    assert_close(after_five, run(built(gentle(*overrides))))


@pytest.mark.parametrize("layout", JOINED_LAYOUT)
def test_in_float64_fifty_steps_agree_to_ten_digits(layout: str) -> None:
    overrides = [f"mesh.{name}={value}" for name, value in vars(LAYOUTS[layout]).items()]

    with jax.enable_x64(True):
        ours, theirs = built(gentle(*DOUBLE), devices=1), built(gentle(*DOUBLE, *overrides))
        assert_close(run_double(ours, steps=50), run_double(theirs, steps=50), rtol=0, atol=1e-10)


def run_double(training: Training, steps: int, order: np.ndarray | slice = slice(None)) -> TrainState:
    state = in_float64(first_state(training))
    for number in range(steps):
        state, _ = one_step(training, state, in_double(some_batch(number, order)))
    return state


def in_double(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return batch | {"fbank": batch["fbank"].astype(np.float64)}


def in_float64(state: TrainState) -> TrainState:
    def widened(x: jax.Array) -> jax.Array:
        return jax.device_put(np.asarray(x, np.float64), x.sharding) if x.dtype == jnp.float32 else x

    return jax.tree.map(widened, state)


@pytest.mark.slow
def test_losses_that_learn_remember_and_compare_pairs_are_the_same_on_eight_devices() -> None:
    """Learned scalars, remembered ones, and queries that do not depend on the order of rows."""
    pairs = '[{"name": "ge2e"}, {"name": "angular_prototypical", "weight": 0.5}]'
    options = ["loss.name=adaface", "data.sampling=speaker", "data.utterances_per_speaker=2", f"loss.pairs={pairs}"]
    with jax.enable_x64(True):
        ours = run_double(built(gentle(*DOUBLE, *options), devices=1), steps=3)
        order = np.array([3, 1, 7, 0, 2, 6, 5, 4])
        theirs = run_double(built(gentle(*DOUBLE, *options, "mesh.model=2")), steps=3, order=order)
        assert_close(ours, theirs, rtol=0, atol=1e-10)
        assert ours.loss_state["weight"] > 0
        assert ours.params["head"]["ge2e"]["scale"] != 10


def test_every_part_of_a_batch_holds_all_utterances_of_its_speakers() -> None:
    """With a row of every speaker in each part there was no pair, and a loss over pairs was zero."""
    options = ["data.sampling=speaker", "data.utterances_per_speaker=2", 'loss.pairs=[{"name": "ge2e"}]']
    batch = some_batch(0) | {"speaker": np.repeat(np.arange(4, dtype=np.int32), 2)}
    values = []
    for parts in (1, 2):
        training = built(gentle(*options, f"optimizer.accumulate={parts}", "loss.weight=0"), devices=1)
        _, metrics = one_step(training, first_state(training), batch)
        values.append(float(metrics["ge2e"]))
        assert float(metrics["gradient_norm"]) > 0.1
    assert min(values) > 0.1


def test_the_row_order_of_a_batch_does_not_matter(one_device: Training, after_five: TrainState) -> None:
    """Masks are drawn per example: two hosts hold the same global set of examples in another order."""
    assert_close(after_five, run(one_device, order=np.array([3, 1, 7, 0, 2, 6, 5, 4])))


def test_the_same_step_twice_is_the_same_to_the_bit(one_device: Training, after_five: TrainState) -> None:
    for a, b in zip(jax.tree.leaves(after_five), jax.tree.leaves(run(one_device)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_prototypes_and_their_momentum_are_cut_along_the_model_axis() -> None:
    training = built(gentle("mesh.model=4"))
    state = run(training, steps=1)
    rows = state.params["head"]["prototypes"].shape[0]
    cut = [
        jax.tree_util.keystr(path)
        for path, x in jax.tree_util.tree_leaves_with_path(state)
        if x.sharding.shard_shape(x.shape) != x.shape
    ]
    assert len(cut) == 2
    assert all("prototypes" in name for name in cut)
    assert {x.data.shape[0] for x in state.params["head"]["prototypes"].addressable_shards} == {rows // 4}


DROPPING = """
import jax.numpy as jnp
from flax import linen as nn
class Dropping(nn.Module):
    @nn.compact
    def __call__(self, frames, mask, *, train=False):
        mean = jnp.where(mask[..., None], frames, 0).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1)[:, None]
        return nn.Dropout(0.5, deterministic=not train)(mean)
"""


@pytest.mark.parametrize("devices", [1, 8])
def test_own_code_may_use_dropout_which_depends_on_seed_step_and_part(tmp_path: Path, devices: int) -> None:
    (tmp_path / "own.py").write_text(DROPPING)
    training = built(gentle(f"model.pooling={tmp_path / 'own.py'}:Dropping", *NO_MASKS), devices)
    state, batch = first_state(training), some_batch(0)
    others = {**batch, "example": batch["example"] + 8}

    def loss(step: int = 0, batch: dict[str, np.ndarray] = batch, seed: int = 0) -> float:
        before = jax.device_get(state).replace(step=np.int32(step))
        before = jax.device_put(before, jax.tree.map(lambda x: x.sharding, state))
        batch = parallel.place_batch(batch, training.mesh)
        return float(training.step(before, batch, parallel.place_seed(seed, training.mesh))[1]["loss"])

    assert loss() == loss()
    assert len({loss(), loss(step=1), loss(batch=others), loss(seed=1)}) == 4


def test_padding_rows_stay_zero(after_five: TrainState) -> None:
    np.testing.assert_array_equal(after_five.params["head"]["prototypes"][SPEAKERS:], 0)


def test_rematerialisation_changes_no_number(after_five: TrainState) -> None:
    assert_close(after_five, run(built(gentle("model.rematerialize=true"), devices=1)))


def parts_of(batch: dict[str, np.ndarray], parts: int) -> list[dict[str, np.ndarray]]:
    return [{name: value[i::parts] for name, value in batch.items()} for i in range(parts)]


def test_accumulated_parts_average_their_gradients_and_share_one_update() -> None:
    """Against two networks side by side: plain SGD, one step, parts computed by themselves from the same state."""
    plain = ["optimizer.momentum=0", "optimizer.warmup=0", "spec_augment.num_time_masks=0", *DOUBLE]
    with jax.enable_x64(True):
        halves = built(gentle(*plain, "data.batch_size=4"), devices=4)
        start = jax.tree.map(np.asarray, in_float64(first_state(halves)).params)
        moves = []
        for part in parts_of(in_double(some_batch(0)), 2):
            after, _ = one_step(halves, in_float64(first_state(halves)), part)
            moves.append(jax.tree.map(lambda new, old: np.asarray(new) - old, after.params, start))
        whole = built(gentle(*plain, "optimizer.accumulate=2"), devices=4)
        after, metrics = one_step(whole, in_float64(first_state(whole)), in_double(some_batch(0)))
        expected = jax.tree.map(lambda old, one, other: old + (one + other) / 2, start, *moves)
        for a, b in zip(jax.tree.leaves(after.params), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    assert np.isfinite(metrics["loss"])


@pytest.mark.slow
def test_the_loop_over_parts_equals_the_unrolled_one() -> None:
    """Accelerators loop, CPUs unroll."""
    config = gentle("optimizer.accumulate=4", "data.batch_size=8")
    training = built(config, devices=1)
    looped = build_looped(config)
    unrolled_state, looped_state = first_state(training), first_state(training)
    batch, seed = parallel.place_batch(some_batch(0), training.mesh), parallel.place_seed(0, training.mesh)
    assert_close(training.step(unrolled_state, batch, seed)[0], looped(looped_state, batch, seed)[0])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_on_a_cpu_no_convolution_is_in_a_loop(accumulate: int) -> None:
    """XLA:CPU convolves fifty times slower there, and ``lax.scan(unroll=True)`` still is a loop."""
    training = built(gentle(f"optimizer.accumulate={accumulate}"), devices=1)
    assert "scan[" not in str(training.step.trace(training.state, training.batch, training.seed).jaxpr)


def build_looped(config: Config) -> Any:
    from mqmha_jax.losses import build_loss
    from mqmha_jax.models.speaker_net import build_speaker_net
    from mqmha_jax.train import schedules
    from mqmha_jax.train.optim import build_optimizer
    from mqmha_jax.train.step import build_train_step

    return jax.jit(
        build_train_step(
            config,
            net=build_speaker_net(config.model),
            loss=build_loss(config.loss, num_speakers=SPEAKERS, embedding_dim=config.model.embedding_dim),
            optimizer=build_optimizer(config.optimizer, config.train.steps),
            learning_rate=schedules.learning_rate(config.optimizer, config.train.steps),
            margin_progress=schedules.margin_progress(config.loss, config.train.steps),
        )
    )


def test_the_average_follows_the_network_and_warms_up() -> None:
    training = built(gentle("optimizer.ema=0.9"), devices=1)
    expected, state = None, first_state(training)
    for number in range(4):
        state, _ = one_step(training, state, some_batch(number))
        latest = jax.tree.map(np.asarray, {"params": state.params["net"], "batch_stats": state.batch_stats})
        decay = min(0.9, (1 + number) / (10 + number))
        before = expected or jax.tree.map(np.asarray, first_state(training).average)
        expected = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, before, latest)
    for a, b in zip(jax.tree.leaves(state.network()), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_without_an_average_the_network_is_the_latest(after_five: TrainState) -> None:
    assert after_five.network()["params"] is after_five.params["net"]


def test_a_step_that_is_not_finite_changes_nothing_but_the_counters() -> None:
    remembering = ["loss.name=curricular", "loss.diagnostics=true"]
    training = built(gentle("optimizer.ema=0.9", *remembering), devices=1)
    batch = some_batch(0)
    batch["fbank"][3, 5, 2] = np.nan
    state = jax.tree.map(np.asarray, first_state(training))
    after, metrics = one_step(training, first_state(training), batch)
    assert int(after.step) == int(state.step) + 1
    assert int(after.counters["skipped"]) == int(after.counters["skipped_in_row"]) == 1
    assert metrics["skipped_in_row"] == 1
    assert not np.isfinite(metrics["loss"])
    for part in ("params", "batch_stats", "average", "opt_state", "loss_state"):
        old, new = jax.tree.leaves(getattr(state, part)), jax.tree.leaves(getattr(after, part))
        assert old
        for a, b in zip(old, new, strict=True):
            np.testing.assert_array_equal(a, b)
    good, _ = one_step(training, after, some_batch(1))
    assert (int(good.counters["skipped"]), int(good.counters["skipped_in_row"])) == (1, 0)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_logged_rate_is_the_applied_one_after_a_skipped_step(name: str) -> None:
    """From the same state the same batch moves the parameters along one direction; the rate says how far."""
    constant = [
        "optimizer.momentum=0",
        "optimizer.weight_decay=0",
        "loss.margin_end=0",
        "spec_augment.num_time_masks=0",
    ]
    rising = ["optimizer.learning_rate=0.9", "optimizer.warmup=0.5"]
    training = built(gentle(f"optimizer.name={name}", *constant, *rising), devices=1)
    start = jax.tree.map(np.asarray, first_state(training)).params

    def move_by_rate(state: TrainState, expected_rate: float) -> list[np.ndarray]:
        state, metrics = one_step(training, state, some_batch(1))
        assert float(metrics["learning_rate"]) == pytest.approx(expected_rate)
        moves = jax.tree.map(lambda new, old: (np.asarray(new) - old) / metrics["learning_rate"], state.params, start)
        return jax.tree.leaves(moves)

    bad = some_batch(0)
    bad["fbank"][:] = np.nan
    at_once = move_by_rate(first_state(training), 0.9 / 30)
    after_skipped = move_by_rate(one_step(training, first_state(training), bad)[0], 2 * 0.9 / 30)
    for ours, theirs in zip(after_skipped, at_once, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * max(1e-2, np.abs(theirs).max()))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mesh.model=3"], r"mesh\.data=-1 times mesh\.model=3 is not the number of devices, 8"),
        (["mesh.data=-1", "mesh.model=-1"], r"both -1.*mesh\.data=1 with mesh\.model=-1"),
        (["data.batch_size=9"], r"data\.batch_size=9 does not divide by the 8 devices"),
        (
            ["optimizer.accumulate=2"],
            r"data\.batch_size=8 does not divide by the 8 devices times 2 parts.*multiple of 16",
        ),
        (
            ['loss.pairs=[{"name": "ge2e"}]'],
            r"loss\.pairs=ge2e compares.* set data\.sampling=speaker and data\.utterances_p",
        ),
        (
            ['loss.pairs=[{"name": "ge2e"}]', "data.speaker_exponent=1"],
            r"loss\.pairs=ge2e compares utterances.* one of each: set data\.utterances_per_speaker=2 or more",
        ),
        (
            ['loss.pairs=[{"name": "ge2e"}]', "data.sampling=speaker", "data.utterances_per_speaker=8"],
            r"ge2e compares speakers, and needs at least two .* in a batch: .*a multiple of 8 and at least 16, not 8",
        ),
        (
            [
                'loss.pairs=[{"name": "ge2e"}]',
                "data.sampling=speaker",
                "data.utterances_per_speaker=8",
                "data.batch_size=16",
                "optimizer.accumulate=2",
            ],
            r"in each part of a batch: .*=8 and optimizer\.accumulate=2, .*a multiple of 16 and at least 32, not 16",
        ),
        (["model.batch_norm_groups=3"], r"model\.batch_norm_groups=3 does not divide the 8 examples"),
        (["model.batch_norm_groups=8"], r"embeddings of a step would be equal.* divisor of 8 that is at most 4\."),
    ],
)
def test_what_does_not_fit_the_devices_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        built(gentle(*overrides))
