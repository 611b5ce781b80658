"""Cosines to sub-centre prototypes against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np

from mqmha_jax.models.head import init_prototypes, nearest_cosines, unit_length


def _small_case():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(4, 5)), jnp.float32), jnp.asarray(rng.normal(size=(6, 3, 5)), jnp.float32)


def test_nearest_of_all_sub_centres():
    embedding, prototypes = _small_case()
    cosine = nearest_cosines(embedding, prototypes)
    for b, e in enumerate(np.asarray(embedding, np.float64)):
        for c, centres in enumerate(np.asarray(prototypes, np.float64)):
            expected = max(e @ p / np.linalg.norm(e) / np.linalg.norm(p) for p in centres)
            np.testing.assert_allclose(cosine[b, c], expected, rtol=0, atol=1e-6)


def test_gradient_goes_to_the_nearest_sub_centre_only():
    embedding, prototypes = _small_case()
    gradient = jax.grad(lambda p: nearest_cosines(embedding[:1], p).sum())(prototypes)
    cosine = np.einsum("e,cke->ck", unit_length(embedding[0]), unit_length(prototypes))
    np.testing.assert_array_equal(np.abs(gradient).max(axis=2) > 0, cosine == cosine.max(axis=1)[:, None])


def test_equal_sub_centres_share_nothing():
    embedding, prototypes = _small_case()
    gradient = jax.grad(lambda p: nearest_cosines(embedding, p).sum())(jnp.repeat(prototypes[:, :1], 2, axis=1))
    assert np.abs(gradient[:, 0]).max() > 0
    np.testing.assert_array_equal(gradient[:, 1], 0)


def test_zero_vectors_have_cosine_zero_and_no_gradient():
    """It would be 10^12 times as large as any other, but finite, so that no step would be skipped."""
    zeros, directions = jnp.zeros((1, 5)), jnp.ones((2, 1, 5))
    for embedding, prototypes in ((zeros, directions), (jnp.ones((1, 5)), jnp.zeros((2, 1, 5)))):
        cosine, gradients = jax.value_and_grad(lambda *both: nearest_cosines(*both).sum(), (0, 1))(
            embedding, prototypes
        )
        assert cosine == 0
        for gradient in gradients:
            np.testing.assert_array_equal(gradient, 0)


def test_initial_prototypes_are_directions_of_unit_scale():
    prototypes = init_prototypes(jax.random.key(0), 200, 3, 64)
    assert prototypes.shape == (200, 3, 64)
    assert prototypes.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(prototypes, axis=-1).mean(), 1, atol=0.02)
    assert abs(np.einsum("ke,je->kj", prototypes[0], prototypes[1]).mean()) < 0.2


def test_unit_length():
    units = unit_length(jnp.array([[3.0, 4.0], [0.0, 0.0], [1e-10, 0.0], [1e10, 0.0]]))
    np.testing.assert_allclose(units, [[0.6, 0.8], [0, 0], [1, 0], [1, 0]], atol=1e-6)
