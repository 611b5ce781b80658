"""Masked batch normalisation against NumPy on the valid positions alone, and PyTorch's running statistics."""

import jax.numpy as jnp
import numpy as np

from mqmha_jax.models.masked import MaskedBatchNorm


def _batch():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, size=(4, 6, 5, 2)).astype(np.float32)
    mask = np.arange(6)[None, :] < np.array([6, 1, 0, 4])[:, None]
    x[~mask] = np.nan
    variables = {
        "params": {"scale": jnp.array([2.0, 0.5]), "bias": jnp.array([1.0, -1.0])},
        "batch_stats": {"mean": jnp.array([0.5, 1.0]), "var": jnp.array([4.0, 9.0])},
    }
    return x, mask, variables


def test_training_uses_and_collects_valid_positions_only():
    x, mask, variables = _batch()
    y, update = MaskedBatchNorm().apply(
        variables, jnp.asarray(x), jnp.asarray(mask), train=True, mutable=["batch_stats"]
    )
    valid = x[mask].reshape(-1, 2).astype(np.float64)
    expected = (valid - valid.mean(0)) / np.sqrt(valid.var(0) + 1e-5) * [2, 0.5] + [1, -1]
    np.testing.assert_allclose(np.asarray(y)[mask].reshape(-1, 2), expected, rtol=0, atol=1e-5)
    new = update["batch_stats"]
    np.testing.assert_allclose(new["mean"], 0.9 * np.array([0.5, 1]) + 0.1 * valid.mean(0), rtol=1e-5)
    np.testing.assert_allclose(new["var"], 0.9 * np.array([4, 9]) + 0.1 * valid.var(0, ddof=1), rtol=1e-5)


def test_evaluation_uses_running_statistics():
    x, mask, variables = _batch()
    y = MaskedBatchNorm().apply(variables, jnp.asarray(x), jnp.asarray(mask), train=False)
    expected = (x - [0.5, 1]) / np.sqrt(np.array([4, 9]) + 1e-5) * [2, 0.5] + [1, -1]
    np.testing.assert_allclose(np.asarray(y)[mask], expected[mask], rtol=0, atol=1e-5)


def test_groups_are_normalised_by_themselves_and_share_the_running_statistics():
    """Two groups of two rows: each equals a batch of its own, and the running statistics are the mean of the two."""
    x, mask, variables = _batch()
    mask[2, :2] = True
    x[2, :2] = 1.5 * np.random.default_rng(1).normal(size=(2, 5, 2))
    x, mask = jnp.asarray(x), jnp.asarray(mask)
    y, update = MaskedBatchNorm(groups=2).apply(variables, x, mask, train=True, mutable=["batch_stats"])
    alone = [
        MaskedBatchNorm().apply(variables, x[rows], mask[rows], train=True, mutable=["batch_stats"])
        for rows in (slice(0, 2), slice(2, 4))
    ]
    for rows, (expected, _) in zip((slice(0, 2), slice(2, 4)), alone, strict=True):
        np.testing.assert_allclose(np.asarray(y)[rows][mask[rows]], np.asarray(expected)[mask[rows]], rtol=1e-6)
    for name in ("mean", "var"):
        mean = sum(np.asarray(new["batch_stats"][name]) for _, new in alone) / 2
        np.testing.assert_allclose(update["batch_stats"][name], mean, rtol=1e-6)
