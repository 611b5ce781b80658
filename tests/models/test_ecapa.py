"""ECAPA-TDNN against plain loops over frames, and its message."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.models.encoders.ecapa import EcapaTdnn
from mqmha_jax.models.masked import Compute


def layer(x: np.ndarray, params: Any, dilation: int = 1) -> np.ndarray:
    """Convolution, ReLU, and normalisation by the statistics of an untrained network (mean 0, variance 1)."""
    kernel, bias = np.asarray(params["affine"]["kernel"]), np.asarray(params["affine"]["bias"])
    y = np.tile(bias, (len(x), 1))
    for t in range(len(x)):
        for j in range(len(kernel)):
            neighbour = t + (j - len(kernel) // 2) * dilation
            if 0 <= neighbour < len(x):
                y[t] += x[neighbour] @ kernel[j]
    return np.maximum(y, 0) / np.sqrt(1 + 1e-5) * params["norm"]["scale"] + params["norm"]["bias"]


def dense(x: np.ndarray, params: Any) -> np.ndarray:
    return x @ np.asarray(params["kernel"]) + np.asarray(params["bias"])


def block(x: np.ndarray, params: Any, dilation: int) -> np.ndarray:
    a, b, c, d = np.split(layer(x, params["before"]), 4, axis=1)
    b = layer(b, params["part1"], dilation)
    c = layer(c + b, params["part2"], dilation)
    d = layer(d + c, params["part3"], dilation)
    y = layer(np.concatenate([a, b, c, d], axis=1), params["after"])
    hidden = np.maximum(dense(y.mean(axis=0), params["se"]["squeeze"]), 0)
    return y / (1 + np.exp(-dense(hidden, params["se"]["excite"]))) + x


def test_equals_loops_over_frames() -> None:
    small = {"channels": 8, "final_channels": 5, "dilations": (2, 3), "scale": 4, "bottleneck": 3}
    module = EcapaTdnn(**small, compute=Compute(dtype=jnp.float64))
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        fbank, mask = jnp.asarray(rng.normal(size=(1, 12, 6))), jnp.arange(12)[None, :] < 10
        variables = module.init(jax.random.key(0), fbank, mask, train=False)
        params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) / 2), variables["params"])
        frames, out_mask = map(np.asarray, module.apply({**variables, "params": params}, fbank, mask, train=False))
        params, fbank = jax.tree.map(np.asarray, (params, fbank))
    first = layer(fbank[0, :10], params["layer1"])
    second = block(first, params["layer2"], 2)
    third = block(first + second, params["layer3"], 3)
    expected = np.maximum(dense(np.concatenate([second, third], axis=1), params["join"]), 0)
    np.testing.assert_allclose(frames[0, :10], expected, rtol=1e-9)
    np.testing.assert_array_equal(out_mask, mask)


def test_an_impossible_scale_is_refused() -> None:
    with pytest.raises(UserError, match=r"scale=3 must divide channels=8"):
        EcapaTdnn(channels=8, scale=3).init(jax.random.key(0), jnp.ones((1, 4, 8)), jnp.ones((1, 4), bool), train=False)
