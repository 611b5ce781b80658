"""Edges of utterances in time-delay layers, against NumPy one utterance at a time."""

import jax
import jax.numpy as jnp
import numpy as np

from mqmha_jax.models.encoders.time_delay import TimeDelayLayer, _reflect, _without_edges
from mqmha_jax.models.masked import Compute
from mqmha_jax.models.time_products import convolve_as_product


def test_frames_are_mirrored_at_the_ends_of_each_utterance() -> None:
    x = np.random.default_rng(0).normal(size=(4, 7, 2)).astype(np.float32)
    lengths = [7, 5, 2, 1]
    mask = np.arange(7)[None] < np.array(lengths)[:, None]
    found = np.asarray(_reflect(jnp.where(mask[..., None], x, 1e6), jnp.asarray(mask), 3))
    for row, length in enumerate(lengths):
        expected = np.pad(x[row, :length], ((3, 3), (0, 0)), mode="reflect" if length > 1 else "edge")
        np.testing.assert_array_equal(found[row, : length + 6], expected)


def test_frames_without_full_context_are_dropped_unless_all_are() -> None:
    lengths = [7, 5, 4, 1]
    mask = np.arange(7)[None] < np.array(lengths)[:, None]
    found = np.asarray(_without_edges(jnp.asarray(mask), 2))
    assert [list(np.flatnonzero(row)) for row in found] == [[2, 3, 4], [2], [0, 1, 2, 3], [0]]


def test_reflected_edges_go_with_another_way_to_convolve() -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 2)), jnp.float32)
    mask = jnp.arange(7)[None] < jnp.asarray([[7], [5]])
    plain, product = (
        TimeDelayLayer(3, 3, 2, 1, Compute(convolve_time=function), "reflected")
        for function in (None, convolve_as_product)
    )
    variables = plain.init(jax.random.key(0), x, mask, False)
    expected, found = (layer.apply(variables, x, mask, False)[0] for layer in (plain, product))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
