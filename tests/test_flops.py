"""FLOPs of scans against the same steps written out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from mqmha_jax.flops import count_flops

X, W = jax.ShapeDtypeStruct((8, 16), jnp.float32), jax.ShapeDtypeStruct((5, 16, 16), jnp.float32)
PRODUCT = 2 * 8 * 16 * 16


def one_scan(x: Array, w: Array) -> Array:
    return lax.scan(lambda carry, part: (carry @ part, None), x, w)[0]


def nested(x: Array, w: Array) -> Array:
    return lax.scan(lambda carry, _: (one_scan(carry, w), None), x, length=3)[0]


def in_a_called_function(x: Array, w: Array) -> Array:
    return jax.jit(jax.checkpoint(one_scan))(x, w)


@pytest.mark.parametrize(
    ("function", "products"),
    [(lambda x, w: x @ w[0], 1), (one_scan, 5), (nested, 15), (in_a_called_function, 5)],
    ids=["no scan", "scan", "nested", "in a called function"],
)
def test_a_scan_counts_as_often_as_it_runs(function: Any, products: int) -> None:
    np.testing.assert_allclose(count_flops(function, X, W), products * PRODUCT, rtol=0.01)  # and the counter of a loop


def test_without_scans_it_is_what_xla_says() -> None:
    def function(x: Array, w: Array) -> Array:
        return jnp.tanh(x @ w[0] + 1).sum()

    expected = jax.jit(function).lower(X, W).cost_analysis()["flops"]
    assert count_flops(function, X, W) == expected
