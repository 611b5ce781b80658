"""The paper's loss as plain functions: worked numbers, the slow form, training's own loss, and what they refuse."""

import doctest
import functools
import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mqmha_jax.config import LossConfig
from mqmha_jax.errors import UserError
from mqmha_jax.losses import (
    LossInputs,
    build_loss,
    inter_topk,
    inter_topk_softmax,
    inter_topk_softmax_with_prototypes,
)
from mqmha_jax.models.head import nearest_cosines
from tests.support.paths import REFERENCE
from tests.support.slow_losses import slow_loss

WORKED = np.load(REFERENCE / "pooling_and_margin.npz", allow_pickle=False)
CASES = sorted({int(key.split("/")[1]) for key in WORKED.files if key.startswith("margin/")})
OPTIONS = {"scale": 8.0, "margin": 0.3, "penalty": 0.1}
compiled_loss = jax.jit(inter_topk_softmax, static_argnames=("top_k", "form"))


def small_case():
    """The second example lies opposite its prototype, where the angle plus the margin passes pi."""
    rng = np.random.default_rng(0)
    embeddings, prototypes, speaker = rng.normal(size=(3, 4)), rng.normal(size=(7, 2, 4)), np.array([3, 5, 0])
    prototypes[5] = -embeddings[1] + 0.05 * rng.normal(size=(2, 4))
    return embeddings, prototypes, speaker


@pytest.mark.parametrize("index", CASES)
def test_value_and_gradient_equal_worked_numbers(index):
    case = {key.split("/")[2]: WORKED[key] for key in WORKED.files if key.startswith(f"margin/{index}/")}
    given = json.loads(str(case["config"]))
    options = {name: given[name] for name in ("scale", "margin", "penalty", "top_k")}
    with jax.enable_x64(True):

        @jax.jit
        @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
        def mean_loss(embeddings, prototypes):
            speaker = jnp.asarray(case["speaker"])
            loss = inter_topk_softmax_with_prototypes(embeddings, prototypes, speaker, form=given["kind"], **options)
            return loss.mean(), loss

        (_, loss), gradients = mean_loss(jnp.asarray(case["embedding"]), jnp.asarray(case["prototypes"]))
    np.testing.assert_allclose(loss, case["loss"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(gradients[0], case["grad_embedding"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(gradients[1], case["grad_prototypes"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", ["am", "aam"])
@pytest.mark.parametrize("top_k", [0, 2, 6])
def test_value_and_gradient_equal_the_slow_form(form, top_k):
    embeddings, prototypes, speaker = small_case()
    with jax.enable_x64(True):

        @jax.jit
        @functools.partial(jax.value_and_grad, has_aux=True)
        def total(embeddings):
            cosines = nearest_cosines(embeddings, jnp.asarray(prototypes))
            loss = inter_topk_softmax(cosines, jnp.asarray(speaker), top_k=top_k, form=form, **OPTIONS)
            return loss.sum(), loss

        (_, loss), gradient = total(jnp.asarray(embeddings))
    for b in range(3):
        slow = functools.partial(
            slow_loss, form, prototypes=prototypes, speaker=speaker[b], top_k=top_k, state={}, **OPTIONS
        )
        np.testing.assert_allclose(loss[b], slow(embeddings[b]), rtol=0, atol=1e-9)
        for i, step in enumerate(1e-6 * np.eye(4)):
            difference = (slow(embeddings[b] + step) - slow(embeddings[b] - step)) / 2e-6
            np.testing.assert_allclose(gradient[b, i], difference, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["am", "aam"])
def test_training_computes_the_same_loss_to_the_bit(form):
    embeddings, prototypes, speaker = map(jnp.asarray, small_case())
    embeddings, prototypes, speaker = embeddings.astype(jnp.float32), prototypes.astype(jnp.float32), jnp.int32(speaker)
    trained = build_loss(LossConfig(name=form, sub_centres=2, top_k=2, scale=8.0), num_speakers=7, embedding_dim=4)
    theirs, _, _ = trained.apply(
        {"prototypes": prototypes}, {}, LossInputs(embeddings, speaker), margin=0.3, penalty=0.1
    )
    ours = inter_topk_softmax_with_prototypes(embeddings, prototypes, speaker, top_k=2, form=form, **OPTIONS)
    np.testing.assert_array_equal(ours, theirs)


def test_without_margin_and_penalty_it_is_the_softmax_of_optax():
    cosines, speaker = jnp.array([[0.8, 0.7, 0.6], [0.4, 0.5, 0.2]]), jnp.array([0, 2])
    ours = compiled_loss(cosines, speaker, scale=32.0, margin=0.0, penalty=0.0, top_k=2)
    theirs = optax.softmax_cross_entropy_with_integer_labels(32.0 * cosines, speaker)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)  # logits of 30 in float32


def test_by_hand():
    """One example: its own speaker 0.8 - 0.2, the nearest other 0.3 + 0.06, the third as it is."""
    cosines = jnp.array([[0.8, 0.3, 0.1]])
    loss = compiled_loss(cosines, jnp.array([0]), scale=10.0, margin=0.2, penalty=0.06, top_k=1)
    np.testing.assert_allclose(loss, [-np.log(np.exp(6) / (np.exp(6) + np.exp(3.6) + np.exp(1)))], rtol=1e-5)


def test_scale_margin_and_penalty_may_be_traced():
    cosines, speaker = jnp.array([[0.8, 0.3, 0.1], [0.4, 0.5, 0.2]]), jnp.array([0, 1])
    loss = functools.partial(inter_topk_softmax, cosines, speaker, top_k=1, form="aam")
    traced = jax.jit(lambda scale, margin, penalty: loss(scale=scale, margin=margin, penalty=penalty))
    small, large = traced(8.0, 0.1, 0.03), traced(8.0, 0.2, 0.06)
    assert (large > small).all()
    np.testing.assert_allclose(large, loss(scale=8.0, margin=0.2, penalty=0.06), rtol=1e-5)
    assert traced._cache_size() == 1


@pytest.mark.parametrize("form", ["am", "aam"])
def test_the_gradient_is_finite_at_both_ends_of_the_cosine(form):
    cosines = jnp.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0]])
    loss = functools.partial(inter_topk_softmax, speaker=jnp.array([0, 0]), top_k=1, form=form, **OPTIONS)
    assert np.isfinite(jax.jit(jax.grad(lambda cosines: loss(cosines).sum()))(cosines)).all()


def test_half_precision_cosines_give_a_float32_loss():
    cosines = jnp.array([[0.8, 0.3, 0.1]])
    loss = functools.partial(compiled_loss, speaker=jnp.array([0]), top_k=1, **OPTIONS)
    assert loss(cosines.astype(jnp.bfloat16)).dtype == jnp.float32
    np.testing.assert_allclose(loss(cosines.astype(jnp.bfloat16)), loss(cosines), rtol=0.02)


def test_it_obeys_the_strict_settings_of_jax():
    cosines, speaker = jnp.array([[0.8, 0.3, 0.1]]), jnp.array([0])
    with jax.debug_nans(True), jax.numpy_dtype_promotion("strict"):
        for given in (cosines, cosines.astype(jnp.bfloat16)):
            loss = inter_topk_softmax(given, speaker, top_k=1, **OPTIONS)
    assert np.isfinite(loss).all()


def test_a_speaker_that_does_not_exist_gives_nan_for_its_example_alone():
    cosines = jnp.array([[0.8, 0.3], [0.4, 0.5], [0.1, 0.2]])
    loss = compiled_loss(cosines, jnp.array([0, 2, -1]), top_k=1, **OPTIONS)
    np.testing.assert_array_equal(np.isnan(loss), [False, True, True])


def test_the_examples_of_the_docstrings_run():
    found = doctest.testmod(inter_topk)
    assert found.failed == 0
    assert found.attempted >= 10


COSINES, SPEAKER = np.zeros((2, 3), np.float32), np.array([0, 1])
EMBEDDINGS, PROTOTYPES = np.zeros((2, 4), np.float32), np.zeros((3, 1, 4), np.float32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"top_k": 3}, r"^top_k must be below the number of speakers \(3\).* but it is 3. Use 0 .* to 2"),
        ({"top_k": -1}, r"but it is -1"),
        ({"form": "arc"}, r"Unknown form of the inter-topK loss 'arc'.* Valid: aam, am"),
        ({"cosines": COSINES[0]}, r"cosines \[B,C\] must be .* in 2 dimensions, but they are float32 of shape \(3,\)"),
        ({"cosines": COSINES.astype(int)}, r"must be floating point numbers .* but they are int32"),
        ({"speaker": SPEAKER[:1]}, r"speaker \[B\] has shape \(1,\), but cosines \[B,C\] has shape \(2, 3\)"),
        ({"speaker": SPEAKER[:, None]}, r"speaker \[B\] has shape \(2, 1\)"),
        ({"speaker": SPEAKER / 2}, r"speaker \[B\] must hold integers.* but its type is float32"),
        ({"cosines": COSINES[:, :1], "top_k": 0}, r"needs at least 2 of them; there are 1"),
        ({"speaker": np.array([0, 3])}, r"speaker\[1\] is 3, but there are 3 speakers; valid: 0 to 2"),
        ({"speaker": np.array([-1, 0])}, r"speaker\[0\] is -1"),
        ({"scale": 0.0}, r"scale must be a finite number above 0, but it is 0\.0"),
        ({"scale": np.nan}, r"scale must be a finite number above 0, but it is nan"),
        ({"scale": np.ones(2)}, r"scale must be a finite number above 0"),
        ({"margin": -0.1}, r"margin must be a finite number of at least 0, but it is -0\.1"),
        ({"penalty": np.inf}, r"penalty must be a finite number of at least 0, but it is inf"),
    ],
)
def test_it_refuses_and_says_why(changed, message):
    """Called as users call it, without the checker of shapes that the tests install."""
    given = {"cosines": COSINES, "speaker": SPEAKER, "top_k": 1, **OPTIONS, **changed}
    with pytest.raises(UserError, match=message):
        inspect.unwrap(inter_topk_softmax)(**given)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prototypes": PROTOTYPES[:, 0]}, r"prototypes \[C,K,E\] must be .* in 3 dimensions, .* of shape \(3, 4\)"),
        ({"prototypes": PROTOTYPES[..., :2]}, r"embeddings \[B,E\] have E = 4, but prototypes \[C,K,E\] have E = 2"),
        ({"speaker": SPEAKER[:1]}, r"speaker \[B\] has shape \(1,\), but embeddings \[B,E\] has shape \(2, 4\)"),
    ],
)
def test_the_form_with_prototypes_refuses_and_says_why(changed, message):
    given = {"embeddings": EMBEDDINGS, "prototypes": PROTOTYPES, "speaker": SPEAKER, "top_k": 1, **OPTIONS, **changed}
    with pytest.raises(UserError, match=message):
        inspect.unwrap(inter_topk_softmax_with_prototypes)(**given)
