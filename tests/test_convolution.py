"""The kernel's gradient by patches is the gradient of the plain convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.hardware import Hardware
from mqmha_jax.models import convolution as convolutions
from mqmha_jax.models.convolution import convolution, convolution_by_patches
from mqmha_jax.models.speaker_net import build_speaker_net


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("shape", "kernel_shape", "strides", "padding", "chunk"),
    [
        ((2, 17, 13, 3), (3, 3, 3, 5), (1, 1), ((1, 1), (1, 1)), 200),  # runs that do not divide the rows
        ((3, 17, 13, 3), (3, 3, 3, 5), (2, 2), ((1, 1), (1, 1)), 250),
        ((2, 16, 12, 4), (1, 1, 4, 6), (2, 2), ((0, 0), (0, 0)), 100),
        ((2, 9, 10, 4), (3, 3, 4, 4), (1, 1), ((1, 1), (1, 1)), 1 << 19),  # all at once
        ((1, 7, 5, 1), (5, 3, 1, 2), (3, 1), ((2, 2), (1, 1)), 50),
        ((2, 8, 6, 2), (3, 2, 2, 3), (1, 1), ((1, 1), (1, 0)), 40),  # as folding pads
        ((2, 8, 6, 2), (3, 3, 2, 3), (1, 1), ((1, 1), (1, 1)), 1),  # large kernel: the plain gradient
    ],
)
def test_gradients_by_patches(monkeypatch, shape, kernel_shape, strides, padding, chunk, dtype):
    monkeypatch.setattr(convolutions, "_CHUNK", chunk)
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=shape), dtype)
    kernel = jnp.asarray(random.normal(size=kernel_shape), dtype)

    def result(convolve):
        def value(x, kernel):
            y = convolve(x, kernel, strides, padding)
            return jnp.sin(y.astype(jnp.float32)).sum(), y

        return jax.grad(value, (0, 1), has_aux=True)(x, kernel)

    (ours, y), (plain, expected) = result(convolution_by_patches), result(convolution)
    np.testing.assert_array_equal(y, expected)
    for a, b in zip(ours, plain, strict=True):
        assert a.dtype == b.dtype
        largest = float(jnp.abs(b.astype(jnp.float32)).max())
        rounding = 1e-5 if dtype == jnp.float32 else 1e-2
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), rtol=0, atol=rounding * largest)


def test_a_network_asks_for_patches_where_its_hardware_does():
    """A loop over runs of rows stands in the gradient's program, and in the plain one none."""
    config = ModelConfig(encoder=part("resnet18", width=4, stage_sizes=[1, 1, 1, 1]), embedding_dim=8)

    def program(net):
        fbank, mask = jnp.zeros((2, 9, 16)), jnp.ones((2, 9), bool)
        variables = jax.eval_shape(lambda: net.init(jax.random.key(0), fbank, mask, train=False))
        return str(jax.make_jaxpr(jax.grad(lambda v: net.apply(v, fbank, mask, train=False).sum()))(variables))

    assert "scan[" in program(build_speaker_net(config, Hardware(kernel_gradient_by_patches=True)))
    assert "scan[" not in program(build_speaker_net(config))
