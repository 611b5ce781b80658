"""Mean normalisation over valid frames."""

import jax
import jax.numpy as jnp
import numpy as np

from mqmha_jax.features.cmn import subtract_mean


def test_equals_a_loop_and_ignores_the_padding() -> None:
    rng = np.random.default_rng(0)
    fbank = rng.normal(10, 3, (3, 7, 4)).astype(np.float32)
    num_frames = [7, 4, 1]
    mask = np.arange(7)[None] < np.array(num_frames)[:, None]
    expected = np.zeros_like(fbank)
    for row, num in enumerate(num_frames):
        expected[row, :num] = fbank[row, :num] - fbank[row, :num].astype(np.float64).mean(axis=0)
    fbank[~mask] = np.nan
    np.testing.assert_allclose(subtract_mean(jnp.asarray(fbank), jnp.asarray(mask)), expected, atol=1e-5)


def test_sums_float16_in_float32() -> None:
    # 6,000 frames at 20: a float16 sum would overflow at 65,504
    fbank = np.full((1, 6_000, 2), 20.0, np.float16)
    fbank[0, ::2] += np.float16(0.5)
    normalised = subtract_mean(jnp.asarray(fbank), jnp.ones((1, 6_000), bool))
    assert normalised.dtype == jnp.float32
    np.testing.assert_allclose(normalised[0, :2], [[0.25, 0.25], [-0.25, -0.25]], atol=1e-5)


def test_a_row_without_valid_frames_is_zero() -> None:
    normalised = subtract_mean(jnp.ones((1, 3, 2)), jnp.zeros((1, 3), bool))
    np.testing.assert_array_equal(normalised, np.zeros((1, 3, 2)))


def test_float64_stays_float64() -> None:
    with jax.enable_x64(True):
        normalised = subtract_mean(jnp.asarray([[[1.0], [1.0 + 1e-12]]], jnp.float64), jnp.ones((1, 2), bool))
        np.testing.assert_allclose(normalised[0, :, 0], [-5e-13, 5e-13], rtol=1e-3)
