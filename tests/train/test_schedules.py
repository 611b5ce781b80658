"""Learning rate, margin and update rule against slow references."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mqmha_jax.config import LossConfig, OptimizerConfig
from mqmha_jax.errors import UserError
from mqmha_jax.models import build_speaker_net
from mqmha_jax.models.pooling import POOLINGS
from mqmha_jax.train.optim import build_optimizer, select_decayed
from mqmha_jax.train.schedules import learning_rate, margin_progress
from tests.support.small_nets import SMALL_ENCODERS, padded_batch, small_model


def test_exponential_schedule_warms_up_and_ends_where_it_should() -> None:
    config = OptimizerConfig(learning_rate=0.1, final_learning_rate=1e-4, warmup=0.1)
    rates = np.array([float(learning_rate(config, 100)(step)) for step in range(100)])
    np.testing.assert_allclose(rates[:10], 0.1 * np.arange(1, 11) / 10, rtol=1e-5)
    np.testing.assert_allclose(rates[10:], 0.1 * (1e-4 / 0.1) ** (np.arange(90) / 90), rtol=1e-4)
    assert float(learning_rate(config, 100)(100)) == pytest.approx(1e-4, rel=1e-4)


def test_cosine_schedule_is_half_way_in_the_middle() -> None:
    config = OptimizerConfig(learning_rate=0.2, final_learning_rate=0.02, schedule="cosine", warmup=0.0)
    schedule = learning_rate(config, 100)
    assert [float(schedule(step)) for step in (0, 50, 100)] == pytest.approx([0.2, 0.11, 0.02])


def test_constant_schedule_stays() -> None:
    config = OptimizerConfig(learning_rate=0.2, schedule="constant", warmup=0.0)
    assert float(learning_rate(config, 10)(7)) == pytest.approx(0.2)


@pytest.mark.parametrize("schedule", ["exponential", "cosine", "constant", "plateau"])
def test_a_rate_of_zero_is_refused(schedule: str) -> None:
    with pytest.raises(UserError, match=r"optimizer\.learning_rate=0 trains nothing"):
        learning_rate(OptimizerConfig(learning_rate=0.0, schedule=schedule), 100)


def test_an_exponential_decay_to_zero_is_refused_and_a_cosine_reaches_it() -> None:
    config = OptimizerConfig(learning_rate=0.1, final_learning_rate=0.0, warmup=0.0)
    with pytest.raises(UserError, match=r"never reaches 0\. Give a rate above 0, such as 0\.0001.*schedule=cosine"):
        learning_rate(config, 100)
    assert float(learning_rate(dataclasses.replace(config, schedule="cosine"), 100)(100)) == 0


@pytest.mark.parametrize(("growth", "middle"), [("linear", 0.5), ("exponential", 1 - 1e-3**0.5)])
def test_margin_grows_between_its_fractions(growth: str, middle: float) -> None:
    config = LossConfig(margin_start=0.2, margin_end=0.4, margin_growth=growth)
    progress = margin_progress(config, 100)
    values = [float(progress(step)) for step in (0, 20, 30, 40, 99)]
    np.testing.assert_allclose(values, [0, 0, middle, 1, 1], atol=1e-6)


def test_a_margin_without_ramp_applies_from_the_first_step() -> None:
    assert float(margin_progress(LossConfig(), 100)(0)) == 1.0


@pytest.fixture(scope="module")
def params() -> dict:
    return {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "prototypes": jnp.full((4, 2, 3), 2.0)}


def test_only_kernels_and_prototypes_decay(params: dict) -> None:
    assert select_decayed(params) == {"kernel": True, "bias": False, "prototypes": True}


HEADS: dict[str, dict[str, int]] = {"mha": {"heads": 4}, "mqmha": {"heads": 4, "layers": 2}}


@pytest.mark.parametrize(
    ("encoder", "pooling"), [*((name, "tap") for name in SMALL_ENCODERS), *(("tdnn", p) for p in POOLINGS)]
)
def test_no_bias_or_normalisation_of_a_network_decays(encoder: str, pooling: str) -> None:
    """Scorers of several heads have biases with several axes."""
    net = build_speaker_net(small_model(encoder, pooling, **HEADS.get(pooling, {})))
    shapes = jax.eval_shape(functools.partial(net.init, jax.random.key(0), train=False), *padded_batch(16, (16, 9)))
    decayed = jax.tree_util.tree_leaves_with_path(select_decayed(shapes["params"]))
    assert {path[-1].key for path, yes in decayed if yes} - {"kernel"} <= {f"weights{i}" for i in range(2, 8)}


def test_sgd_is_nesterov_with_coupled_decay(params: dict) -> None:
    """Against the update written out for each array, as PyTorch's SGD(nesterov=True, weight_decay) defines it."""
    config = OptimizerConfig(name="sgd", momentum=0.9, weight_decay=0.1)
    rate = 0.5
    optimizer = build_optimizer(config, 1)
    state = optimizer.init(params)
    expected = {name: np.asarray(value) for name, value in params.items()}
    velocity = {name: np.zeros_like(value) for name, value in expected.items()}
    current = params
    for step in range(3):
        gradients = jax.tree.map(lambda p, step=step: jnp.full(p.shape, 0.3 + 0.1 * step), current)
        updates, state = optimizer.update(gradients, state, current)
        current = jax.tree.map(lambda p, u: p - rate * u, current, updates)
        for name, value in expected.items():
            gradient = 0.3 + 0.1 * step + (0.1 * value if value.ndim > 1 else 0)
            velocity[name] = 0.9 * velocity[name] + gradient
            expected[name] = value - rate * (gradient + 0.9 * velocity[name])
    for name in expected:
        np.testing.assert_allclose(current[name], expected[name], rtol=1e-5)


def test_adamw_does_not_decay_biases(params: dict) -> None:
    optimizer = build_optimizer(OptimizerConfig(name="adamw", weight_decay=0.1), 1)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["bias"], 0)
    np.testing.assert_allclose(updates["kernel"], 0.1 * params["kernel"], rtol=1e-6)


def test_gradients_are_clipped_by_their_global_norm(params: dict) -> None:
    config = OptimizerConfig(momentum=0.0, weight_decay=0.0, max_gradient_norm=1.0)
    optimizer = build_optimizer(config, 1)
    updates, _ = optimizer.update(jax.tree.map(lambda p: 100 * p, params), optimizer.init(params), params)
    assert np.sqrt(sum(float((u**2).sum()) for u in jax.tree.leaves(updates))) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_directions_times_a_changing_rate_are_the_updates_of_optax(name: str, params: dict) -> None:
    """Weight decay included: optax's own rules apply the rate inside the optimizer."""
    config = OptimizerConfig(name=name, weight_decay=0.1, max_gradient_norm=1.0)

    def rate(step: int) -> float:
        return 0.5 / (1 + step)

    if name == "adamw":
        theirs = optax.adamw(rate, b1=config.momentum, weight_decay=0.1, mask=select_decayed)
    else:
        theirs = optax.chain(
            optax.add_decayed_weights(0.1, mask=select_decayed),
            optax.sgd(rate, momentum=config.momentum, nesterov=True),
        )
    ours, theirs = build_optimizer(config, 1), optax.chain(optax.clip_by_global_norm(1.0), theirs)
    our_state, their_state, one, other = ours.init(params), theirs.init(params), params, params
    for step in range(4):
        gradients = jax.tree.map(lambda p, step=step: jnp.sin(p + step), one)
        directions, our_state = ours.update(gradients, our_state, one)
        updates, their_state = theirs.update(gradients, their_state, other)
        one = jax.tree.map(lambda p, d, step=step: p - rate(step) * d, one, directions)
        other = optax.apply_updates(other, updates)
    for leaf in params:
        np.testing.assert_allclose(one[leaf], other[leaf], rtol=1e-6)
