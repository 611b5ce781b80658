"""Losses over the pairs of a batch against loops, and beside a classification."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.config import LossConfig, PairTerm
from mqmha_jax.errors import UserError
from mqmha_jax.losses import PAIRS, Batch, LossInputs, build_loss
from tests.support.products import precisions_on_tpu
from tests.support.slow_losses import SLOW_PAIRS


def test_every_loss_over_pairs_has_a_slow_form() -> None:
    assert PAIRS.keys() == SLOW_PAIRS.keys()


def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three utterances of speaker 4, two of 1 and of 7, one of 2; numbered in another order than the rows."""
    rng = np.random.default_rng(0)
    speaker = np.array([4, 1, 7, 4, 2, 7, 1, 4], np.int32)
    return rng.normal(size=(8, 5)), speaker, rng.permutation(8).astype(np.uint32)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_value_and_gradient_equal_a_loop(name: str) -> None:
    embedding, speaker, example = case()
    loss = PAIRS[name]()
    slow = functools.partial(SLOW_PAIRS[name], speaker=speaker, example=example)
    with jax.enable_x64(True):
        params = {key: jnp.asarray(value, jnp.float64) for key, value in loss.init_params.items()}

        @jax.jit
        @jax.value_and_grad
        def mean(embedding: Any) -> Any:
            return loss.apply(params, Batch(embedding, jnp.asarray(speaker), jnp.asarray(example))).mean()

        value, gradient = mean(jnp.asarray(embedding))
        np.testing.assert_allclose(value, slow(embedding), rtol=1e-10)
        for place in np.ndindex(*embedding.shape):
            step = np.zeros_like(embedding)
            step[place] = 1e-6
            difference = (slow(embedding + step) - slow(embedding - step)) / 2e-6
            np.testing.assert_allclose(gradient[place], difference, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_no_device_rounds_the_cosines(name: str) -> None:
    embedding, speaker, example = case()
    loss = PAIRS[name]()
    params = {key: jnp.float32(value) for key, value in loss.init_params.items()}

    def mean(embedding: Any) -> Any:
        return loss.apply(params, Batch(embedding, jnp.asarray(speaker), jnp.asarray(example))).mean()

    assert {*precisions_on_tpu(jax.value_and_grad(mean), jnp.float32(embedding))} == {"HIGHEST"}


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_the_order_of_rows_changes_nothing_and_lone_speakers_do_not_count(name: str) -> None:
    embedding, speaker, example = case()
    order = np.random.default_rng(1).permutation(8)

    def losses(embedding: np.ndarray, speaker: np.ndarray, example: np.ndarray) -> np.ndarray:
        loss = PAIRS[name]()
        params = {key: jnp.float32(value) for key, value in loss.init_params.items()}
        return np.asarray(loss.apply(params, Batch(jnp.float32(embedding), jnp.asarray(speaker), jnp.asarray(example))))

    whole = losses(embedding, speaker, example)
    np.testing.assert_allclose(losses(embedding[order], speaker[order], example[order]), whole[order], atol=1e-5)
    assert whole[4] == 0
    assert (losses(embedding, np.arange(8, dtype=np.int32), example) == 0).all()


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_the_gradient_is_finite_without_any_pair(name: str) -> None:
    loss = PAIRS[name]()
    params = {key: jnp.float32(value) for key, value in loss.init_params.items()}

    def total(embedding: Any) -> Any:
        numbers = jnp.arange(4)
        return loss.apply(params, Batch(embedding, numbers.astype(jnp.int32), numbers.astype(jnp.uint32))).sum()

    assert np.isfinite(jax.grad(total)(jnp.ones((4, 3)))).all()


def test_terms_are_added_with_their_weights_and_measured() -> None:
    embedding, speaker, example = case()
    inputs = LossInputs(jnp.float32(embedding), jnp.asarray(speaker), jnp.asarray(example))

    def apply(config: LossConfig) -> tuple[Any, Any]:
        loss = build_loss(config, num_speakers=9, embedding_dim=5)
        params = loss.init(jax.random.key(0))
        value, metrics, _ = loss.apply(params, loss.initial_state, inputs, margin=0.2, penalty=0.06)
        return value, metrics

    alone, _ = apply(LossConfig())
    pairs = (PairTerm(name="ge2e", weight=0.5), PairTerm(name="supervised_contrastive", options={"temperature": 0.2}))
    both, metrics = apply(LossConfig(weight=2.0, pairs=pairs))
    expected = 2 * alone + 0.5 * metrics["ge2e"] + metrics["supervised_contrastive"]
    np.testing.assert_allclose(both, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((), r"loss\.weight is 0, and there is no loss\.pairs\. Give one of the losses a weight above 0"),
        (
            (PairTerm(name="ge2e", weight=0.0),),
            r"trains nothing: loss\.weight is 0, and so are all weights in loss\.pairs",
        ),
    ],
)
def test_a_loss_that_trains_nothing_is_refused(pairs: tuple[PairTerm, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_loss(LossConfig(weight=0.0, pairs=pairs), num_speakers=9, embedding_dim=5)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((PairTerm(name="ge2"),), "Unknown loss over pairs 'ge2'. Did you mean 'ge2e'?"),
        ((PairTerm(name="ge2e", options={"scal": 1}),), "Unknown option of loss over pairs 'ge2e': 'scal'"),
        ((PairTerm(name="ge2e"), PairTerm(name="ge2e")), "loss.pairs names a loss twice: ge2e, ge2e"),
    ],
)
def test_impossible_terms_are_refused(pairs: tuple[PairTerm, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_loss(LossConfig(pairs=pairs), num_speakers=9, embedding_dim=5)
