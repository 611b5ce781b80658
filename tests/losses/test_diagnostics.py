"""Diagnostics of speakers and sub-centres against dictionaries."""

import jax
import jax.numpy as jnp
import numpy as np

from mqmha_jax.config import LossConfig, MeshConfig
from mqmha_jax.losses import LossInputs, build_loss
from mqmha_jax.losses.diagnostics import diagnose, initialize_memory
from mqmha_jax.parallel import device_mesh
from tests.support.products import precisions_on_tpu

ROWS, K, TOP = 6, 2, 3


def batches(number: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {
            "embedding": rng.normal(size=(5, 4)).astype(np.float32),
            "speaker": rng.integers(0, ROWS, 5).astype(np.int32),
            "example": (5 * step + rng.permutation(5)).astype(np.uint32),
            "nearest": np.stack([rng.permutation(ROWS)[:TOP] for _ in range(5)]).astype(np.int32),
        }
        for step in range(number)
    ]


def test_equals_dictionaries_over_several_steps() -> None:
    prototypes = np.random.default_rng(1).normal(size=(ROWS, K, 4)).astype(np.float32)
    memory = initialize_memory(ROWS, TOP, K)
    confused: dict[int, set[int]] = {}
    wins = np.zeros((ROWS, K), int)
    for batch in batches(6):
        metrics, memory = diagnose(memory, jnp.asarray(prototypes), **jax.tree.map(jnp.asarray, batch))
        returned = [
            len(confused[s] & set(near)) / TOP
            for s, near in zip(batch["speaker"], batch["nearest"].tolist(), strict=True)
            if s in confused
        ]
        np.testing.assert_allclose(metrics["confusions_returned"].mean(), np.mean(returned or [0]), rtol=1e-5)
        for s, x in zip(batch["speaker"], batch["embedding"], strict=True):
            wins[s, int(np.argmax([p @ x / np.linalg.norm(p) for p in prototypes[s]]))] += 1
        expected = [wins[s].max() / wins[s].sum() for s in batch["speaker"]]
        np.testing.assert_allclose(metrics["dominant_sub_centre"], expected, rtol=1e-6)
        norms = np.linalg.norm(batch["embedding"], axis=1)
        for q in (5, 25, 50, 75, 95):
            np.testing.assert_allclose(metrics[f"embedding_norm_p{q}"], np.percentile(norms, q), rtol=1e-5)
        for i in np.argsort(batch["example"]):
            confused[int(batch["speaker"][i])] = set(batch["nearest"][i].tolist())


def test_no_device_rounds_the_cosines_to_the_sub_centres() -> None:
    (batch,) = batches(1)
    memory, prototypes = initialize_memory(ROWS, TOP, K), np.ones((ROWS, K, 4), np.float32)
    assert {*precisions_on_tpu(diagnose, memory, prototypes, *batch.values())} == {"HIGHEST"}


def test_a_loss_remembers_and_measures_with_sharded_classes() -> None:
    """The diagnostics change neither loss nor gradient."""

    def apply(diagnostics: bool, mesh_config: MeshConfig | None) -> tuple[object, object, object]:
        mesh = None if mesh_config is None else device_mesh(mesh_config)
        config = LossConfig(top_k=TOP, sub_centres=K, diagnostics=diagnostics)
        loss = build_loss(config, num_speakers=300, embedding_dim=4, mesh=mesh)
        rng = np.random.default_rng(2)
        embedding = jnp.asarray(rng.normal(size=(16, 4)), jnp.float32)
        speaker = jnp.asarray(rng.integers(0, 300, 16), jnp.int32)
        inputs = LossInputs(embedding, speaker, jnp.arange(16, dtype=jnp.uint32))
        params, state = loss.init(jax.random.key(0)), loss.initial_state

        @jax.jit
        def gradient(params: object, state: object) -> object:
            def total(params: object) -> tuple[object, object]:
                value, metrics, new = loss.apply(params, state, inputs, margin=0.2, penalty=0.06)
                return value.sum(), (metrics, new)

            return jax.grad(total, has_aux=True)(params)

        gradients, (_, state) = gradient(params, state)
        _, (metrics, state) = gradient(params, state)
        return gradients, metrics, state

    plain, metrics, state = apply(False, None)
    assert state == {}
    assert "confusions_returned" not in metrics
    dense, dense_metrics, dense_state = apply(True, None)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    _, sharded_metrics, sharded_state = apply(True, MeshConfig(data=2, model=4))
    assert np.asarray(dense_metrics["confusions_returned"]).mean() > 0.99  # the same batch again
    for name in dense_metrics:
        np.testing.assert_allclose(dense_metrics[name], sharded_metrics[name], rtol=1e-4, atol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(dense_state), jax.tree.leaves(sharded_state), strict=True):
        np.testing.assert_array_equal(a, b)
