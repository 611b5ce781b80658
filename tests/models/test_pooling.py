"""Poolings against worked numbers, plain loops, and utterances without padding."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.errors import UserError
from mqmha_jax.models import build_speaker_net
from mqmha_jax.models.pooling import POOLINGS
from mqmha_jax.models.pooling.mqmha import MQMHA
from mqmha_jax.models.pooling.statistics import TSTP
from tests.support.paths import REFERENCE as REFERENCE_DIR
from tests.support.products import precisions_on_tpu

REFERENCE = np.load(REFERENCE_DIR / "pooling_and_margin.npz", allow_pickle=False)
SMALL_OPTIONS = {
    "mqmha": {"heads": 4, "queries": 2, "layers": 2, "bottleneck": 3},
    "mha": {"heads": 4},
    "ccasp": {"bottleneck": 5},
}
LENGTHS = (1, 4, 7)


def _reference_case(index: int) -> dict[str, np.ndarray]:
    prefix = f"mqmha/{index}/"
    return {key.removeprefix(prefix): REFERENCE[key] for key in REFERENCE.files if key.startswith(prefix)}


@pytest.fixture(scope="module", params=sorted(POOLINGS))
def pooling(request):
    """Every pooling with fixed parameters, and a batch of mixed lengths, padded with numbers that must not matter."""
    module = POOLINGS[request.param](**SMALL_OPTIONS.get(request.param, {}))
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(3, 9, 24)).astype(np.float32)
    mask = np.arange(9)[None, :] < np.array(LENGTHS)[:, None]
    frames[~mask] = np.nan
    frames, mask = jnp.asarray(frames), jnp.asarray(mask)
    variables = jax.jit(module.init)(jax.random.key(0), frames, mask)
    return jax.jit(functools.partial(module.apply, variables)), frames, mask


@pytest.mark.parametrize("index", range(6))
def test_mqmha_equals_worked_numbers(index):
    case = _reference_case(index)
    config = json.loads(str(case["config"]))
    module = MQMHA(
        heads=config["heads"],
        queries=config["queries"],
        layers=config["layers"],
        bottleneck=max(config["bottleneck"], 1),
        channel_wise=config["channelwise"],
        variance_floor=config["variance_floor"],
    )
    with jax.enable_x64(True):
        kernels = [jnp.asarray(case[name]).swapaxes(-1, -2) for name in ("w0", "w1") if name in case]
        params = {"score": {"kernel": kernels[-1]}}
        if config["layers"] == 2:
            params["hidden"] = {"kernel": kernels[0], "bias": jnp.asarray(case["b0"])}
        frames = jnp.asarray(case["frames"])
        pooled = jax.jit(module.apply)({"params": params}, frames, jnp.ones(frames.shape[:2], bool))
    expected = np.stack([case["mean"], case["std"]], axis=-2).reshape(len(frames), -1)
    assert pooled.dtype == np.float64
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-10)


def test_padding_changes_nothing(pooling):
    pool, frames, mask = pooling
    batched = pool(frames, mask)
    for i, length in enumerate(LENGTHS):
        alone = pool(frames[i : i + 1, :length], mask[i : i + 1, :length])
        np.testing.assert_allclose(batched[i], alone[0], rtol=0, atol=1e-6)


def test_gradient_is_finite_down_to_one_frame_and_zero_in_the_padding(pooling):
    pool, frames, mask = pooling
    gradient = jax.jit(jax.grad(lambda x: pool(x, mask).sum()))(frames)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[mask]).max() > 0
    np.testing.assert_array_equal(gradient[~mask], 0)


def test_an_utterance_without_frames_is_finite(pooling):
    pool, frames, mask = pooling
    assert np.isfinite(pool(frames, jnp.zeros_like(mask))).all()


@pytest.mark.parametrize("unbiased", [True, False])
def test_tstp_is_mean_beside_standard_deviation(unbiased):
    frames = np.random.default_rng(1).normal(size=(2, 5, 3)).astype(np.float32)
    pooled = TSTP(unbiased=unbiased).apply({}, jnp.asarray(frames), jnp.ones((2, 5), bool))
    expected = [frames.mean(1), np.sqrt(frames.var(1, ddof=int(unbiased)) + 1e-7)]
    np.testing.assert_allclose(pooled, np.concatenate(expected, axis=1), rtol=1e-5)


@pytest.mark.parametrize("module", [TSTP(unbiased=False), MQMHA(heads=1, queries=1)], ids=["tstp", "mqmha"])
def test_small_deviations_around_a_large_mean_survive_float32(module):
    rng = np.random.default_rng(2)
    frames = jnp.asarray(1000 + 0.1 * rng.normal(size=(1, 50, 8)), jnp.float32)
    mask = jnp.ones((1, 50), bool)
    variables = jax.tree.map(jnp.zeros_like, module.init(jax.random.key(0), frames, mask))  # uniform weights
    std = module.apply(variables, frames, mask)[0, 8:]
    np.testing.assert_allclose(std, np.asarray(frames[0], np.float64).std(0), rtol=1e-3)


@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_no_device_rounds_the_moments(name):
    """They are the last products; those before give scores, whose softmax needs no more digits than other layers."""
    module = POOLINGS[name](**SMALL_OPTIONS.get(name, {}))
    frames, mask = jnp.ones((2, 5, 24)), jnp.ones((2, 5), bool)
    variables = jax.jit(module.init)(jax.random.key(0), frames, mask)
    found = precisions_on_tpu(module.apply, variables, frames, mask)
    if name in ("tap", "tstp"):
        assert not found, "they add, and a sum rounds nothing"
        return
    assert found == ["DEFAULT"] * module.layers + ["HIGHEST"] * (1 + module.deviation)

    def total(frames):
        return module.apply(variables, frames, mask).sum()

    # The gradient of a product has two more.
    assert precisions_on_tpu(jax.value_and_grad(total), frames).count("HIGHEST") == 3 * (1 + module.deviation)


def test_size_does_not_depend_on_the_number_of_heads():
    frames, mask = jnp.ones((2, 4, 24)), jnp.ones((2, 4), bool)
    for heads in (1, 3, 24):
        module = MQMHA(heads=heads, queries=3)
        pooled, _ = jax.eval_shape(functools.partial(module.init_with_output, jax.random.key(0)), frames, mask)
        assert pooled.shape == (2, 2 * 24 * 3)


def test_heads_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(UserError) as error:
        MQMHA(heads=7).init(jax.random.key(0), jnp.ones((2, 4, 2560)), jnp.ones((2, 4), bool))
    assert "heads = 7 does not divide the encoder's D = 2560 channels" in str(error.value)
    assert "4, 5, 8, 10" in str(error.value)


def weighted(frames, weights):
    """Mean and standard deviation, frame by frame; weights ``[t]`` or one for each channel ``[t, D]``."""
    mean, square = np.zeros(frames.shape[1]), np.zeros(frames.shape[1])
    for frame, weight in zip(frames, weights, strict=True):
        mean, square = mean + weight * frame, square + weight * frame**2
    return mean, np.sqrt(square - mean**2)


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum(axis=0)


def slow_pooling(name, x, p):
    """Each special case as its own paper defines it, for one utterance ``[t, D]``."""
    if name in ("sap", "asp"):
        scores = np.array([np.tanh(frame @ p["w"][0, 0] + p["b"][0, 0]) @ p["v"][0, 0] for frame in x])
        mean, std = weighted(x, softmax(scores[:, 0]))
        return mean if name == "sap" else np.concatenate([mean, std])
    if name == "ccasp":
        context = np.concatenate([x.mean(axis=0), x.std(axis=0)])
        rows = [np.tanh(np.concatenate([f, context]) @ p["w"][0, 0] + p["b"][0, 0]) @ p["v"][0, 0] for f in x]
        return np.concatenate(weighted(x, softmax(np.array(rows))))
    if name == "mha":
        parts = np.split(x, p["v"].shape[1], axis=1)
        means = [weighted(part, softmax(part @ p["v"][0, h, :, 0]))[0] for h, part in enumerate(parts)]
        return np.concatenate(means)
    pooled = []
    for query in range(len(p["v"])):  # global multi-head, vector-based
        scores = np.tanh(x @ p["w"][query, 0] + p["b"][query, 0]) @ p["v"][query, 0]
        pooled += weighted(x, softmax(scores if name == "vsa" else scores[:, 0]))
    return np.concatenate(pooled)


@pytest.mark.parametrize("name", ["sap", "asp", "ccasp", "mha", "global_mha", "vsa"])
def test_special_cases_are_what_their_papers_define(name):
    x = np.random.default_rng(3).normal(size=(6, 8))
    module = POOLINGS[name](**SMALL_OPTIONS.get(name, {}))
    with jax.enable_x64(True):
        frames, mask = jnp.asarray(x)[None], jnp.ones((1, 6), bool)
        variables = module.init(jax.random.key(0), frames, mask)
        variables = jax.tree.map(lambda v: jnp.asarray(np.random.default_rng(4).normal(size=v.shape)), variables)
        pooled = module.apply(variables, frames, mask)[0]
    layers = variables["params"]
    p = {"v": np.asarray(layers["score"]["kernel"])}
    if "hidden" in layers:
        p |= {"w": np.asarray(layers["hidden"]["kernel"]), "b": np.asarray(layers["hidden"]["bias"])}
    np.testing.assert_allclose(pooled, slow_pooling(name, x, p), rtol=1e-9)


def test_the_order_of_frames_does_not_matter(pooling):
    pool, frames, mask = pooling
    order = np.array(
        [2, 0, 3, 1, 6, 5, 4, 7, 8]
    )  # the valid frames of each utterance stay in front only for the longest
    np.testing.assert_allclose(pool(frames[2:, order], mask[2:, order]), pool(frames[2:], mask[2:]), atol=1e-5)


def test_a_normalised_scorer_uses_the_valid_frames_of_the_batch_in_training():
    module = MQMHA(heads=1, queries=1, layers=2, bottleneck=5, channel_wise=True, activation="relu_norm_tanh")
    rng = np.random.default_rng(2)
    frames, mask = rng.normal(size=(3, 9, 4)).astype(np.float32), np.arange(9)[None] < np.array(LENGTHS)[:, None]
    batch = jnp.asarray(frames), jnp.asarray(mask)
    variables = jax.jit(module.init)(jax.random.key(0), *batch)
    apply = jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))
    pooled, update = apply(variables, *batch)
    params, pieces = (
        jax.tree.map(np.asarray, variables["params"]),
        [row[:length] for row, length in zip(frames, LENGTHS, strict=True)],
    )
    hidden = [np.maximum(x @ params["hidden"]["kernel"][0, 0] + params["hidden"]["bias"][0, 0], 0) for x in pieces]
    valid = np.concatenate(hidden)
    np.testing.assert_allclose(update["batch_stats"]["hidden_norm"]["mean"], 0.1 * valid.mean(axis=0), rtol=1e-5)
    for row, x, h in zip(pooled, pieces, hidden, strict=True):
        scores = np.tanh((h - valid.mean(axis=0)) / np.sqrt(valid.var(axis=0) + 1e-5)) @ params["score"]["kernel"][0, 0]
        weights = np.exp(scores) / np.exp(scores).sum(axis=0)
        np.testing.assert_allclose(row[:4], (weights * x).sum(axis=0), rtol=1e-4)


def test_groups_of_a_batch_are_normalised_by_themselves_in_the_scorer():
    """Two groups of two rows: each pools as a batch of its own, and the running statistics are the mean of the two."""
    model = ModelConfig(
        pooling=part("asp", bottleneck=5, activation="relu_norm"), encoder=part("tdnn"), batch_norm_groups=2
    )
    module = build_speaker_net(model).pooling
    rng = np.random.default_rng(3)
    frames = jnp.asarray(rng.normal(size=(4, 9, 4)), jnp.float32)
    mask = jnp.arange(9)[None] < jnp.array([9, 3, 5, 7])[:, None]
    variables = jax.jit(module.init)(jax.random.key(0), frames, mask)

    def pool(module, frames, mask):
        return jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))(variables, frames, mask)

    pooled, update = pool(module, frames, mask)
    alone = [pool(module.clone(batch_norm_groups=1), frames[half], mask[half]) for half in (slice(0, 2), slice(2, 4))]
    np.testing.assert_allclose(pooled, np.concatenate([half for half, _ in alone]), rtol=1e-5, atol=1e-6)
    means = [update["batch_stats"]["hidden_norm"]["mean"] for _, update in alone]
    np.testing.assert_allclose(update["batch_stats"]["hidden_norm"]["mean"], np.mean(means, axis=0), rtol=1e-5)
