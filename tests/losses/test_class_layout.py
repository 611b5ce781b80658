"""Dense, chunked and sharded classes give one loss: value, gradient, metrics, ties, padding."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from mqmha_jax.config import LossConfig, MeshConfig
from mqmha_jax.errors import UserError
from mqmha_jax.losses import MARGINS, ChunkedClasses, ClassLayout, ClassSlice, DenseClasses, LossInputs, build_loss
from mqmha_jax.losses.chunked_classes import choose_chunk_size
from mqmha_jax.parallel import batch_sharding, device_mesh, state_sharding

SPEAKERS, BATCH, DIM = 300, 16, 6

# Names of the layouts -> mesh and chunk. 300 classes are 512 rows; with eight slices the last three are all padding.
LAYOUTS: dict[str, tuple[MeshConfig | None, int]] = {
    "chunked": (None, 100),
    "data": (MeshConfig(), 0),
    "model": (MeshConfig(data=1, model=-1), 0),
    "data x model": (MeshConfig(data=2, model=4), 0),
    "data x model, chunked": (MeshConfig(data=4, model=2), 32),
}


def case() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    embedding, prototypes = rng.normal(size=(BATCH, DIM)), rng.normal(size=(SPEAKERS, 3, DIM))
    prototypes[7] = prototypes[40] = prototypes[260]  # ties, within a slice and across slices
    embedding[:4] = prototypes[7, 0] + 0.1 * rng.normal(size=(4, DIM))
    return jnp.asarray(embedding), jnp.asarray(prototypes), jnp.asarray(rng.integers(0, SPEAKERS, BATCH), jnp.int32)


def value_and_gradient(name: str, mesh_config: MeshConfig | None, chunk: int, top_k: int, **options: Any) -> Any:
    embedding, prototypes, speaker = case()
    config = LossConfig(name=name, sub_centres=3, scale=10.0, top_k=top_k, **options)
    mesh = None if mesh_config is None else device_mesh(mesh_config)
    loss = build_loss(config, num_speakers=SPEAKERS, embedding_dim=DIM, mesh=mesh, class_chunk=chunk)
    rows = ClassLayout(SPEAKERS).num_rows
    params = loss.init(jax.random.key(0))
    params |= {"prototypes": jnp.pad(prototypes, ((0, rows - SPEAKERS), (0, 0), (0, 0)))}
    if mesh is not None:
        params = jax.device_put(params, state_sharding(mesh, params))
        embedding, speaker = (jax.device_put(x, batch_sharding(mesh)) for x in (embedding, speaker))

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def mean_loss(params: Any, embedding: Array) -> tuple[Array, Any]:
        inputs, scheduled = LossInputs(embedding, speaker), {"margin": 0.2, "penalty": 0.06}
        state = loss.initial_state
        if "penalised" in options:  # nothing is penalised before there is a mean
            _, _, state = loss.apply(params, state, inputs, **scheduled)
        loss_, metrics, _ = loss.apply(params, state, inputs, **scheduled)
        # Unequal weights, so that a gradient given to the wrong example shows.
        return (loss_ * jnp.linspace(0.5, 2, BATCH)).sum(), {"loss": loss_, **metrics}

    return mean_loss(params, embedding)


def check_equal(layout: str, name: str, top_k: int, **options: Any) -> None:
    with jax.enable_x64(True):
        (_, metrics), gradients = value_and_gradient(name, *LAYOUTS[layout], top_k, **options)
        (_, dense_metrics), dense_gradients = value_and_gradient(name, None, 0, top_k, **options)
    for key in dense_metrics:
        np.testing.assert_allclose(metrics[key], dense_metrics[key], rtol=0, atol=1e-12, err_msg=key)
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(dense_gradients), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)
    np.testing.assert_array_equal(gradients[0]["prototypes"][SPEAKERS:], 0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "top_k"), [("am", 5), ("aam", SPEAKERS - 1)])
def test_every_layout_equals_the_dense_one_in_value_gradient_and_metrics(layout: str, name: str, top_k: int) -> None:
    check_equal(layout, name, top_k)


@pytest.mark.parametrize("name", sorted(MARGINS.keys() - {"am", "aam"}))
def test_every_loss_works_with_sharded_and_chunked_classes(name: str) -> None:
    check_equal("data x model, chunked", name, 5)


def test_what_is_done_to_negatives_works_with_sharded_and_chunked_classes() -> None:
    check_equal("data x model, chunked", "am", 5, hard_negatives=0.2, label_smoothing=0.1, sub_centre_temperature=0.2)


@pytest.mark.parametrize("layout", ["chunked", "data x model, chunked"])
def test_a_penalty_for_all_above_the_mean_is_the_same_in_every_layout(layout: str) -> None:
    check_equal(layout, "am", 5, penalised="above_mean")


@pytest.mark.parametrize("layout", ["chunked", "data x model, chunked"])
def test_float32_agrees_to_its_digits(layout: str) -> None:
    (_, metrics), gradients = value_and_gradient("am", *LAYOUTS[layout], 5)
    (_, dense_metrics), dense_gradients = value_and_gradient("am", None, 0, 5)
    np.testing.assert_allclose(metrics["loss"], dense_metrics["loss"], rtol=2e-6)
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(dense_gradients), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 4, 12])
def test_chunks_find_the_same_nearest_speakers_as_a_sort(chunk: int) -> None:
    rng = np.random.default_rng(1)
    embedding, speaker = jnp.asarray(rng.normal(size=(5, 2)), jnp.float32), jnp.asarray([0, 3, 9, 5, 5], jnp.int32)
    prototypes = jnp.asarray(rng.normal(size=(12, 1, 2)), jnp.float32)
    prototypes = prototypes.at[8].set(prototypes[2]).at[4].set(prototypes[2])
    part = ClassSlice(embedding, prototypes, speaker, num_classes=10)
    found = ChunkedClasses(part, chunk).top_negatives(4)
    cosine = np.asarray(DenseClasses.of(part).cosine)
    for b in range(5):
        others = [c for c in range(10) if c != speaker[b]]
        np.testing.assert_array_equal(found.speaker[b], sorted(others, key=lambda c: (-cosine[b, c], c))[:4])
        np.testing.assert_allclose(found.sum_of_all[b], cosine[b, others].sum(), rtol=1e-5)


def test_the_chunked_form_never_holds_the_cosines_of_all_classes() -> None:
    """The compiler tells the temporaries of loss and gradient: 256 examples, 16,384 classes (16 MB of cosines)."""

    def temporary_bytes(chunk: int) -> int:
        loss = build_loss(LossConfig(sub_centres=2), num_speakers=16_384, embedding_dim=8, class_chunk=chunk)

        def total(prototypes: Array, embedding: Array, speaker: Array) -> Array:
            inputs = LossInputs(embedding, speaker)
            return loss.apply({"prototypes": prototypes}, {}, inputs, margin=0.2, penalty=0.06)[0].sum()

        arguments = (
            jax.ShapeDtypeStruct((16_384, 2, 8), jnp.float32),
            jax.ShapeDtypeStruct((256, 8), jnp.float32),
            jax.ShapeDtypeStruct((256,), jnp.int32),
        )
        compiled = jax.jit(jax.grad(total, argnums=(0, 1))).lower(*arguments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    cosines = 256 * 16_384 * 4
    assert temporary_bytes(0) > cosines
    assert temporary_bytes(512) < cosines / 4


@pytest.mark.parametrize(("speakers", "rows"), [(2, 256), (256, 256), (5_994, 6_144), (17_982, 18_176)])
def test_padding_is_small_and_divides_by_powers_of_two(speakers: int, rows: int) -> None:
    assert ClassLayout(speakers).num_rows == rows


def test_a_large_head_has_chunks_near_the_wanted_size_on_any_mesh() -> None:
    rows = ClassLayout(1_000_000).num_rows
    assert rows < 1_000_000 * 1.02
    for slices in (1, 8, 64, 256):
        assert rows % slices == 0
        assert 2_048 < choose_chunk_size(rows // slices, 4_096) <= 4_096 or rows // slices <= 4_096


def test_padding_rows_start_as_zero() -> None:
    loss = build_loss(LossConfig(sub_centres=2), num_speakers=SPEAKERS, embedding_dim=DIM)
    prototypes = loss.init(jax.random.key(0))["prototypes"]
    assert prototypes.shape == (512, 2, DIM)
    np.testing.assert_array_equal(prototypes[SPEAKERS:], 0)
    assert np.abs(prototypes[:SPEAKERS]).min(axis=(1, 2)).min() > 0


def test_a_mesh_that_does_not_fit_is_refused() -> None:
    build = functools.partial(build_loss, LossConfig(top_k=0), num_speakers=SPEAKERS, embedding_dim=DIM)
    with pytest.raises(UserError, match=r"axes x and lacks data and model; make it with device_mesh"):
        build(mesh=jax.make_mesh((2,), ("x",)))
    with pytest.raises(
        UserError, match=r"into mesh.model=3 equal slices; use a divisor of 512 .* any power of two up to 512"
    ):
        build(mesh=jax.sharding.Mesh(np.array(jax.devices()[:3]).reshape(1, 3), ("data", "model")))


@pytest.mark.parametrize("speaker", [-1, SPEAKERS])
def test_a_speaker_who_does_not_exist_has_no_loss(speaker: int) -> None:
    loss = build_loss(LossConfig(top_k=0), num_speakers=SPEAKERS, embedding_dim=DIM)
    inputs = LossInputs(jnp.ones((2, DIM)), jnp.array([speaker, 0], jnp.int32))
    values = loss.apply(loss.init(jax.random.key(0)), loss.initial_state, inputs, margin=0.2, penalty=0.0)[0]
    assert np.isnan(values).tolist() == [True, False]


def test_embeddings_in_half_precision_are_widened_first() -> None:
    loss = build_loss(LossConfig(top_k=0), num_speakers=SPEAKERS, embedding_dim=DIM)
    half = jnp.asarray(case()[0], jnp.bfloat16)
    params, speaker = loss.init(jax.random.key(0)), jnp.zeros(BATCH, jnp.int32)
    values = [
        loss.apply(params, loss.initial_state, LossInputs(x, speaker), margin=0.2, penalty=0.0)[0]
        for x in (half, half.astype(jnp.float32))
    ]
    np.testing.assert_array_equal(*values)
