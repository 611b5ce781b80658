"""The TDNN against plain loops over frames, and its messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.models.encoders.tdnn import TDNN


def test_equals_loops_over_frames_and_context():
    module = TDNN(channels=4, final_channels=3, kernel_sizes=(5, 3), dilations=(1, 2))
    fbank = np.random.default_rng(0).normal(size=(1, 9, 6)).astype(np.float32)
    mask = jnp.arange(9)[None, :] < 7
    variables = module.init(jax.random.key(0), jnp.asarray(fbank), mask, train=False)
    frames, out_mask = module.apply(variables, jnp.asarray(fbank), mask, train=False)

    x = fbank[0, :7].astype(np.float64)
    for i, (kernel_size, dilation) in enumerate([(5, 1), (3, 2)], start=1):
        kernel = np.asarray(variables["params"][f"layer{i}"]["affine"]["kernel"], np.float64)
        y = np.zeros((7, kernel.shape[-1]))
        for t in range(7):
            for j in range(kernel_size):
                neighbour = t + (j - kernel_size // 2) * dilation
                if 0 <= neighbour < 7:
                    y[t] += x[neighbour] @ kernel[j]
        x = np.maximum(y, 0) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(frames[0, :7], x, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(out_mask, mask)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_sizes": (5, 3), "dilations": (1,)}, "kernel_sizes has 2, dilations has 1"),
        ({"kernel_sizes": (4,), "dilations": (1,)}, "kernel_sizes holds 4.*Use 3 or 5"),
    ],
)
def test_impossible_layers_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        TDNN(**options).init(jax.random.key(0), jnp.ones((1, 4, 8)), jnp.ones((1, 4), bool), train=False)
