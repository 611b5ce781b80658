"""Margins, the inter-topK penalty and the class reducer against worked numbers and against loops."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.config import LossConfig
from mqmha_jax.errors import UserError
from mqmha_jax.losses import MARGINS, DenseClasses, Example, LossInputs, build_loss, margin_softmax
from mqmha_jax.losses.angles import narrow, widen
from mqmha_jax.losses.inter_topk import penalise_nearest
from mqmha_jax.losses.margins.sphereface2 import sphereface2
from mqmha_jax.models.head import nearest_cosines
from tests.support.paths import REFERENCE as REFERENCE_DIR
from tests.support.paths import ROOT
from tests.support.slow_losses import NAMES, slow_loss

REFERENCE = np.load(REFERENCE_DIR / "pooling_and_margin.npz", allow_pickle=False)
CASES = sorted({int(key.split("/")[1]) for key in REFERENCE.files if key.startswith("margin/")})


# Learned and remembered scalars as they may be in the middle of a run.
LEARNED = {"sphereface2": {"bias": 0.7}}
REMEMBERED = {"curricular": {"t": 0.4}, "adaface": {"mean": 0.9, "deviation": 0.2, "weight": 0.5}}


def _apply(config: LossConfig, prototypes, embedding, speaker, *, state=None, **scheduled):
    loss = build_loss(config, num_speakers=prototypes.shape[0], embedding_dim=prototypes.shape[-1])
    inputs = LossInputs(embedding, jnp.asarray(speaker, jnp.int32))
    schedule = {"margin": config.margin, "penalty": config.penalty, **scheduled}
    learned = {name: values for name, values in LEARNED.items() if name == config.name}
    params = {"prototypes": prototypes} | jax.tree.map(jnp.asarray, learned)
    state = loss.initial_state if state is None else jax.tree.map(jnp.asarray, state)
    return loss.apply(params, state, inputs, **schedule)


def test_every_loss_has_a_slow_form():
    assert set(NAMES) == MARGINS.keys()


def check_worked_numbers(archive, index):
    case = {k.split("/")[2]: archive[k] for k in archive.files if k.startswith(f"margin/{index}/")}
    given = json.loads(str(case["config"]))
    config = LossConfig(
        name=given["kind"],
        sub_centres=given["sub_centers"],
        scale=given["scale"],
        margin=given["margin"],
        top_k=given["top_k"],
        penalty=given["penalty"],
    )
    with jax.enable_x64(True):

        @jax.jit
        @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
        def mean_loss(embedding, prototypes):
            loss, _, _ = _apply(config, prototypes, embedding, case["speaker"])
            return loss.mean(), loss

        (_, loss), gradients = mean_loss(jnp.asarray(case["embedding"]), jnp.asarray(case["prototypes"]))
    np.testing.assert_allclose(loss, case["loss"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(gradients[0], case["grad_embedding"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(gradients[1], case["grad_prototypes"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("index", CASES)
def test_value_and_gradient_equal_worked_numbers(index):
    check_worked_numbers(REFERENCE, index)


def test_value_and_gradient_equal_all_worked_numbers(reference_dir):
    with np.load(reference_dir / "pooling_and_margin.npz", allow_pickle=False) as archive:
        cases = {int(key.split("/")[1]) for key in archive.files if key.startswith("margin/")}
        assert len(cases) > len(CASES)
        for index in sorted(cases - set(CASES)):
            check_worked_numbers(archive, index)


def check_formula(config, *, more_state=None, **slow_options):
    """Value and gradient; the second example lies opposite its prototype, beyond pi - margin."""
    rng = np.random.default_rng(0)
    prototypes, speaker = rng.normal(size=(7, 2, 4)), np.array([3, 5, 0])
    embedding = rng.normal(size=(3, 4))
    prototypes[5] = -embedding[1] + 0.05 * rng.normal(size=(2, 4))
    state = REMEMBERED.get(config.name, {}) | (more_state or {})
    options = {"scale": config.scale, "margin": config.margin, "top_k": config.top_k, "penalty": config.penalty}
    options |= {"state": state, "bias": LEARNED.get(config.name, {}).get("bias", 0.0), **slow_options}
    with jax.enable_x64(True):

        @jax.jit
        @functools.partial(jax.value_and_grad, has_aux=True)
        def total(embedding):
            loss, _, _ = _apply(config, jnp.asarray(prototypes), embedding, speaker, state=state)
            return loss.sum(), loss

        (_, loss), gradient = total(jnp.asarray(embedding))
    for b in range(3):
        slow = functools.partial(slow_loss, config.name, prototypes=prototypes, speaker=speaker[b], **options)
        np.testing.assert_allclose(loss[b], slow(embedding[b]), rtol=0, atol=1e-9)
        steps = [] if config.name == "adaface" else 1e-6 * np.eye(4)  # no gradient passes through its norm
        for i, step in enumerate(steps):
            difference = (slow(embedding[b] + step) - slow(embedding[b] - step)) / 2e-6
            np.testing.assert_allclose(gradient[b, i], difference, rtol=0, atol=1e-6)


def small(name, **options):
    return LossConfig(name=name, sub_centres=2, scale=8.0, margin=0.3, penalty=0.1, **options)


@pytest.mark.parametrize("top_k", [0, 2, 6])
@pytest.mark.parametrize("name", sorted(MARGINS))
def test_equals_the_formula_in_value_and_finite_differences(name, top_k):
    """``top_k = 6`` penalises all others."""
    check_formula(small(name, top_k=top_k))


@pytest.mark.parametrize("name", ["am", "sphereface2"])
def test_labels_can_be_smoothed(name):
    check_formula(small(name, top_k=2, label_smoothing=0.2), smoothing=0.2)


@pytest.mark.parametrize("name", ["am", "curricular"])
def test_hard_negatives_can_weigh_more(name):
    check_formula(small(name, top_k=2, hard_negatives=0.3), hard_negatives=0.3)


@pytest.mark.parametrize("name", ["am", "aam", "curricular"])
@pytest.mark.parametrize("threshold", [-0.1, 0.3, 1e30])
def test_the_penalty_can_be_for_all_above_a_threshold(name, threshold):
    config = small(name, top_k=2, penalised="above_mean")
    check_formula(config, more_state={"penalised_above": threshold}, penalised_above=threshold)


def test_the_threshold_is_the_mean_of_the_batch_before():
    rng = np.random.default_rng(0)
    prototypes, embedding = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((7, 2, 4), (5, 4)))
    config, speaker = small("curricular", top_k=2, penalised="above_mean"), [3, 5, 0, 1, 1]
    first, _, state = _apply(config, prototypes, embedding, speaker)
    nobody, _, _ = _apply(config, prototypes, embedding, speaker, penalty=0.0)
    np.testing.assert_array_equal(first, nobody)
    cosine = np.asarray(nearest_cosines(embedding, prototypes))
    nearest = [sorted(np.delete(row, own))[-2:] for row, own in zip(cosine, speaker, strict=True)]
    np.testing.assert_allclose(state["penalised_above"], np.mean(nearest), rtol=1e-6)
    assert state.keys() == {"t", "penalised_above"}
    second, _, _ = _apply(config, prototypes, embedding, speaker, state=state)
    assert (second > first + 1e-3).any()


@pytest.mark.parametrize("name", ["am", "aam"])
def test_sub_centres_can_blend(name):
    check_formula(small(name, top_k=2, sub_centre_temperature=0.25), temperature=0.25)


def test_adaface_lets_no_gradient_through_the_length():
    embedding, prototypes = jnp.array([[3.0, 4.0]]), jnp.array([[[1.0, 0.2]], [[-1.0, 1.0]]])

    def loss(factor):
        state = REMEMBERED["adaface"]
        return _apply(LossConfig(name="adaface", top_k=1), prototypes, factor * embedding, [0], state=state)[0].sum()

    np.testing.assert_allclose(jax.grad(loss)(1.0), 0, atol=1e-4)  # a cosine does not change with the length


def test_the_curriculum_and_the_lengths_are_remembered(small_case):
    embedding, prototypes, speaker = small_case
    for name in REMEMBERED:
        loss = build_loss(LossConfig(name=name), num_speakers=9, embedding_dim=5)
        _, metrics, state = _apply(LossConfig(name=name, sub_centres=2), prototypes, embedding, speaker)
        norm = np.linalg.norm(embedding, axis=1)
        expected = {"t": metrics["target_cosine"].mean(), "mean": norm.mean(), "deviation": norm.std(), "weight": 1}
        assert state.keys() == loss.initial_state.keys()
        for key, value in state.items():
            np.testing.assert_allclose(value, 0.01 * expected[key], rtol=1e-5)


def test_the_easy_margin_spares_angles_above_a_right_one():
    target = MARGINS["aam"](easy_margin=True).target
    cosine = jnp.array([0.5, -0.5])
    np.testing.assert_allclose(
        target(cosine, 0.2, Example(jnp.ones(2), {}, {})), [np.cos(np.arccos(0.5) + 0.2), -0.5], rtol=1e-6
    )


def test_a_loss_of_ones_own_needs_ten_lines(tmp_path, small_case):
    """As the documentation says, from a file outside the package."""
    text = (ROOT / "docs" / "losses.md").read_text()
    code = text.split("## A loss of your own")[1].split("```python", 1)[1].split("```", 1)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (tmp_path / "mine.py").write_text(code)
    embedding, prototypes, speaker = small_case
    config = LossConfig(name=f"{tmp_path / 'mine.py'}:soft_margin", options={"power": 2.0}, sub_centres=2, top_k=3)
    loss, _, _ = _apply(config, prototypes, embedding, speaker)
    plain, _, _ = _apply(LossConfig(name="am", margin=0.0, sub_centres=2, top_k=3), prototypes, embedding, speaker)
    assert (loss > plain).all()
    with pytest.raises(
        UserError, match=r"Unknown option of loss .*mine\.py:soft_margin': 'pover'\. Did you mean 'power'"
    ):
        _apply(LossConfig(name=config.name, options={"pover": 1.0}), prototypes, embedding, speaker)
    with pytest.raises(UserError, match="defines no function or class 'other'"):
        _apply(LossConfig(name=f"{tmp_path / 'mine.py'}:other"), prototypes, embedding, speaker)
    with pytest.raises(UserError, match=r"No loss file .*nowhere\.py"):
        _apply(LossConfig(name=f"{tmp_path / 'nowhere.py'}:other"), prototypes, embedding, speaker)


@pytest.fixture(scope="module")
def small_case():
    rng = np.random.default_rng(1)
    embedding, prototypes = rng.normal(size=(6, 5)), rng.normal(size=(9, 2, 5))
    return jnp.asarray(embedding, jnp.float32), jnp.asarray(prototypes, jnp.float32), np.array([0, 8, 3, 3, 5, 1])


@pytest.mark.parametrize("name", sorted(MARGINS.keys() - {"softmax", "sphereface2", "a_softmax", "curricular"}))
def test_without_margin_and_penalty_a_loss_is_a_softmax_of_cosines(name, small_case):
    embedding, prototypes, speaker = small_case
    config = LossConfig(name=name, sub_centres=2, top_k=3)
    loss, _, _ = _apply(config, prototypes, embedding, speaker, margin=0.0, penalty=0.0)
    e = embedding / jnp.linalg.norm(embedding, axis=-1, keepdims=True)
    p = prototypes / jnp.linalg.norm(prototypes, axis=-1, keepdims=True)
    logits = 32 * np.einsum("be,cke->bck", e, p).max(axis=2)
    np.testing.assert_allclose(loss, -jax.nn.log_softmax(logits)[np.arange(6), speaker], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(MARGINS))
def test_renaming_speakers_changes_nothing(name, small_case):
    embedding, prototypes, speaker = small_case
    config = LossConfig(name=name, sub_centres=2, top_k=3)
    order = np.random.default_rng(2).permutation(9)
    renamed = np.argsort(order)[speaker]
    for one, other in zip(
        jax.tree.leaves(_apply(config, prototypes, embedding, speaker)),
        jax.tree.leaves(_apply(config, prototypes[order], embedding, renamed)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_metrics_measure_plain_cosines():
    cosine = jnp.array([[0.5, 0.4, 0.3, -0.2], [0.1, 0.4, 0.3, 0.2]])
    classes = DenseClasses(cosine, jnp.array([0, 2], jnp.int32), 4)
    pair, shifts = MARGINS["am"](), [penalise_nearest(MARGINS["am"]().penalise, 0.1)]
    _, metrics, nearest = margin_softmax(
        classes, Example(jnp.ones(2), {}, {}), form=pair, scale=30.0, margin=0.4, shifts=shifts, num_nearest=2
    )  # with a margin of 0.4 the first example would count as wrong
    np.testing.assert_array_equal(metrics["accuracy"], [1, 0])
    np.testing.assert_allclose(metrics["target_cosine"], [0.5, 0.3])
    np.testing.assert_allclose(metrics["top_negative_cosine"], [0.35, 0.3])
    np.testing.assert_allclose(metrics["mean_negative_cosine"], [0.5 / 3, 0.7 / 3], rtol=1e-6)
    reached = [np.arccos(0.4) - np.arccos(0.5), np.arccos(0.4) - np.arccos(0.3)]
    np.testing.assert_allclose(metrics["reached_margin"], reached, rtol=1e-6)
    np.testing.assert_array_equal(nearest, [[1, 2], [1, 3]])


def test_ties_go_to_the_lowest_class_and_exactly_k_are_penalised():
    cosine = jnp.array([[0.5, 0.5, 0.5, 0.5, 0.9, 0.1]])
    classes = DenseClasses(cosine, jnp.array([1], jnp.int32), 6)
    members = classes.top_negatives(3).contain(cosine, jnp.arange(6))
    np.testing.assert_array_equal(np.flatnonzero(members[0] & (np.arange(6) != 1)), [0, 2, 4])


def test_no_gradient_passes_through_the_selection():
    cosine, speaker = jnp.array([[0.5, 0.4, 0.3, -0.2]]), jnp.array([0], jnp.int32)
    gradient = jax.grad(lambda cosine: DenseClasses(cosine, speaker, cosine.shape[1]).top_negatives(2).cosine.sum())(
        cosine
    )
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", sorted(MARGINS))
@pytest.mark.parametrize("cosine", [-1.0, 1.0])
def test_gradient_is_finite_where_the_angle_has_none(name, cosine):
    @jax.jit
    @jax.grad
    def gradient(cosines):
        classes = DenseClasses(cosines, jnp.array([0], jnp.int32), cosines.shape[1])
        pair = MARGINS[name]()
        params, state = (jax.tree.map(jnp.float32, kept.get(name, {})) for kept in (LEARNED, REMEMBERED))
        example = Example(jnp.ones(1), params, state)
        options = {"scale": 32.0, "margin": 0.2, "shifts": [penalise_nearest(pair.penalise, 0.06)]}
        return margin_softmax(classes, example, form=pair, **options)[0].sum()

    assert np.isfinite(gradient(jnp.array([[cosine, cosine, 0.0]]))).all()


@pytest.mark.parametrize("margin", [0.1, 0.2, 0.5])
def test_the_angular_margin_falls_without_a_jump_to_the_end_of_the_half_circle(margin):
    with jax.enable_x64(True):
        theta = np.linspace(0, np.pi, 20_001)
        target = np.asarray(widen(jnp.cos(theta), margin))
    steps = np.diff(target)
    assert (steps[1:-1] < 0).all()
    assert np.abs(steps).max() < 2 * np.pi / 20_000  # no faster than the cosine itself


@pytest.mark.parametrize("penalty", [0.06, 0.2, 0.5])
def test_the_angular_penalty_falls_without_a_jump_from_the_start_of_the_half_circle(penalty):
    """Or it would pull an example towards a speaker whose angle is below the penalty."""
    with jax.enable_x64(True):
        theta = np.linspace(0, np.pi, 20_001)
        penalised = np.asarray(narrow(jnp.cos(theta), penalty))
        gradient = jax.grad(lambda cosine: narrow(cosine, penalty).sum())(jnp.cos(jnp.asarray(theta)))
    steps = np.diff(penalised)
    assert (steps[1:] < 0).all()
    assert np.abs(steps).max() < 2 * np.pi / 20_000
    assert (np.asarray(gradient) >= 0).all()
    np.testing.assert_allclose(penalised[theta > penalty], np.cos(theta[theta > penalty] - penalty), atol=1e-6)


def test_margin_and_penalty_may_be_traced(small_case):
    embedding, prototypes, speaker = small_case
    config = LossConfig(name="aam", sub_centres=2, top_k=3)

    @jax.jit
    def loss(margin, penalty):
        return _apply(config, prototypes, embedding, speaker, margin=margin, penalty=penalty)[0]

    assert (loss(0.2, 0.06) > loss(0.1, 0.03)).all()
    np.testing.assert_allclose(loss(0.2, 0.06), _apply(config, prototypes, embedding, speaker)[0], rtol=1e-5)
    assert loss._cache_size() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": -1}, "LossConfig: top_k must be an integer of at least 0, but it is -1"),
        ({"sub_centres": 0}, "LossConfig: sub_centres must be an integer above 0, but it is 0"),
    ],
)
def test_impossible_sizes_are_refused_where_they_are_given(options, message):
    with pytest.raises(UserError, match=message):
        LossConfig(**options)


@pytest.mark.parametrize(
    ("config", "num_speakers", "message"),
    [
        (
            LossConfig(top_k=8),
            8,
            r"loss.top_k must be below the number of speakers \(8\).* but it is 8. Use 0 .* to 7",
        ),
        (LossConfig(top_k=0), 1, "needs at least 2 of them; there are 1"),
        (LossConfig(name="aamm"), 8, "Unknown loss 'aamm'. Did you mean 'aam'?"),
    ],
)
def test_impossible_losses_are_refused(config, num_speakers, message):
    with pytest.raises(UserError, match=message):
        build_loss(config, num_speakers=num_speakers, embedding_dim=4)


def test_sphereface2_bears_cosines_that_rounding_puts_below_minus_one() -> None:
    pair = sphereface2(power=2.5)
    example = Example(norm=jnp.ones(()), params={"bias": jnp.zeros(())}, state={})
    negative = jax.value_and_grad(lambda cosine: pair.negative(cosine, cosine, 0.2, example))
    assert np.isfinite(negative(jnp.float32(-1 - 1e-7))).all()
