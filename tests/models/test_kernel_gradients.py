"""The fast gradient of a kernel is the gradient of the convolution."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from mqmha_jax.config import MeshConfig
from mqmha_jax.models.kernel_gradients import convolve_with_fast_gradient, speed_up_kernel_gradients
from mqmha_jax.models.speaker_net import SpeakerNet
from mqmha_jax.parallel import device_mesh
from tests.support.small_nets import NUM_FEATURES, small_net

AXES = ("NHWC", "HWIO", "NHWC")


def draw(*shape: int, dtype: Any = jnp.float32) -> Array:
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), dtype)


def sum_over_positions(x: np.ndarray, gradient: np.ndarray, kt: int, kf: int, stride: int = 1) -> np.ndarray:
    """The definition: each tap pairs every gradient with the input that the tap reads for it."""
    total = np.zeros((kt, kf, x.shape[-1], gradient.shape[-1]))
    _, frames, bands, _ = x.shape
    for dt, df, t, f in np.ndindex(kt, kf, *gradient.shape[1:3]):
        row, column = stride * t + dt - kt // 2, stride * f + df - kf // 2
        if 0 <= row < frames and 0 <= column < bands:
            total[dt, df] += x[:, row, column].T @ gradient[:, t, f]
    return total


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("kt", "kf", "frames", "bands"),
    [(3, 3, 9, 5), (5, 3, 7, 4), (3, 1, 6, 4), (3, 5, 4, 2), (3, 3, 1, 1), (1, 1, 7, 6)],
)
def test_gradients_are_those_of_the_definition(kt: int, kf: int, frames: int, bands: int, stride: int) -> None:
    x, kernel = draw(3, frames, bands, 4), draw(kt, kf, 4, 6)
    gradient = draw(3, -(-frames // stride), -(-bands // stride), 6)
    # As in the networks: output i is centred on input i * stride, so the padding behind can be negative.
    padding = [
        (size // 2, (count - 1) // stride * stride + size // 2 - count + 1)
        for size, count in ((kt, frames), (kf, bands))
    ]

    def convolve(function: Any) -> tuple[Array, Array, Array]:
        y, pull = jax.vjp(lambda x, w: function(x, w, (stride, stride), padding, dimension_numbers=AXES), x, kernel)
        return y, *pull(gradient)

    ours, theirs = convolve(convolve_with_fast_gradient), convolve(lax.conv_general_dilated)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        ours[2], sum_over_positions(np.asarray(x), np.asarray(gradient), kt, kf, stride), rtol=1e-5, atol=1e-5
    )


def test_half_precision_sums_in_single() -> None:
    x, kernel, gradient = (
        jnp.asarray(draw(*shape), jnp.bfloat16) for shape in [(2, 64, 8, 4), (3, 3, 4, 4), (2, 64, 8, 4)]
    )
    pull = jax.vjp(lambda w: convolve_with_fast_gradient(x, w, (1, 1), [(1, 1), (1, 1)]), kernel)[1]
    (ours,) = pull(gradient)
    assert ours.dtype == jnp.bfloat16
    reference = sum_over_positions(np.float32(x), np.float32(gradient), 3, 3)
    np.testing.assert_allclose(np.float32(ours), reference, rtol=2**-7, atol=2**-7)


def one_device() -> jax.sharding.Mesh:
    return device_mesh(MeshConfig(), jax.devices()[:1])


def check_gradients(net: SpeakerNet, fast: SpeakerNet, variables: Any, lengths: list[int]) -> None:
    """Both networks have the same gradients for a batch of utterances with these numbers of frames."""
    fbank = draw(len(lengths), max(lengths), NUM_FEATURES)
    mask = jnp.arange(max(lengths))[None] < jnp.asarray(lengths)[:, None]

    def gradients(net: SpeakerNet) -> Any:
        def loss(params: Any) -> Array:
            own = {**variables, "params": params}
            return jnp.sin(net.apply(own, fbank, mask, train=True, mutable=["batch_stats"])[0]).sum()

        return jax.jit(jax.grad(loss))(variables["params"])

    plain = gradients(net)
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * size), gradients(fast), plain)


def test_a_network_has_the_same_gradients() -> None:
    net, variables = small_net("resnet18", "tstp")
    fast = speed_up_kernel_gradients(net, one_device())
    assert fast.encoder.compute.convolve_maps is convolve_with_fast_gradient
    check_gradients(net, fast, variables, [21, 13, 20])


def test_several_devices_keep_their_convolution() -> None:
    net, _ = small_net("resnet18", "tstp")
    assert speed_up_kernel_gradients(net, device_mesh(MeshConfig())) is net


def test_another_order_of_the_axes_is_refused() -> None:
    with pytest.raises(ValueError, match="The axes are"):
        convolve_with_fast_gradient(
            draw(2, 5, 5, 4), draw(3, 3, 4, 4), (1, 1), [(1, 1), (1, 1)], dimension_numbers=("NCHW", "HWIO", "NCHW")
        )
