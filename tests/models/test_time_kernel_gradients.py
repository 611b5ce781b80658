"""The fast gradient of a kernel over time is the gradient of the convolution."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from mqmha_jax.models import time_kernel_gradients
from mqmha_jax.models.kernel_gradients import speed_up_kernel_gradients
from mqmha_jax.models.time_kernel_gradients import convolve_time_with_fast_gradient
from tests.models.test_kernel_gradients import check_gradients, draw, one_device
from tests.support.small_nets import small_net

AXES = ("NWC", "WIO", "NWC")


@pytest.fixture(autouse=True)
def any_number_of_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers for which it is used would make the tests slow."""
    monkeypatch.setattr(time_kernel_gradients, "_ALIASED", 2)


def sum_over_frames(
    x: np.ndarray, gradient: np.ndarray, taps: int, stride: int, before: int, dilation: int
) -> np.ndarray:
    """The definition: each tap pairs every gradient with the frame that the tap reads for it."""
    total = np.zeros((taps, x.shape[-1], gradient.shape[-1]))
    for tap, t in np.ndindex(taps, gradient.shape[1]):
        frame = stride * t + tap * dilation - before
        if 0 <= frame < x.shape[1]:
            total[tap] += x[:, frame].T @ gradient[:, t]
    return total


@pytest.mark.parametrize(
    ("rows", "frames", "taps", "stride", "padding", "dilation"),
    [
        (3, 9, 3, 1, (1, 1), 1),
        (8, 9, 5, 2, (2, 2), 1),
        (11, 10, 3, 2, (2, 2), 2),
        (16, 7, 3, 1, (3, 3), 3),
        (17, 6, 1, 1, (0, 0), 1),
        (9, 1, 3, 1, (1, 1), 1),
        (2, 12, 5, 1, (0, 0), 2),
    ],
)
def test_gradients_are_those_of_the_definition(
    rows: int, frames: int, taps: int, stride: int, padding: tuple[int, int], dilation: int
) -> None:
    x, kernel = draw(rows, frames, 4), draw(taps, 4, 6)
    length = (frames + sum(padding) - (taps - 1) * dilation - 1) // stride + 1
    gradient = draw(rows, length, 6)

    def convolve(function: Any) -> tuple[Array, Array, Array]:
        window = {"rhs_dilation": (dilation,), "dimension_numbers": AXES}
        y, pull = jax.vjp(lambda x, w: function(x, w, (stride,), [padding], **window), x, kernel)
        return y, *pull(gradient)

    ours, theirs = convolve(convolve_time_with_fast_gradient), convolve(lax.conv_general_dilated)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    reference = sum_over_frames(np.asarray(x), np.asarray(gradient), taps, stride, padding[0], dilation)
    np.testing.assert_allclose(ours[2], reference, rtol=1e-5, atol=1e-5)


def test_half_precision_sums_in_single() -> None:
    x, kernel, gradient = (jnp.asarray(draw(*shape), jnp.bfloat16) for shape in [(17, 64, 4), (3, 4, 4), (17, 64, 4)])
    pull = jax.vjp(lambda w: convolve_time_with_fast_gradient(x, w, (1,), [(1, 1)]), kernel)[1]
    (ours,) = pull(gradient)
    assert ours.dtype == jnp.bfloat16
    reference = sum_over_frames(np.float32(x), np.float32(gradient), 3, 1, 1, 1)
    np.testing.assert_allclose(np.float32(ours), reference, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize(("channels", "outputs", "loops"), [(3, 5, False), (4, 5, True), (3, 6, True)])
def test_other_numbers_of_channels_keep_their_gradient(channels: int, outputs: int, loops: bool) -> None:
    def step(x: Array, kernel: Array) -> Array:
        return jax.grad(lambda w: convolve_time_with_fast_gradient(x, w, (1,), [(1, 1)]).sum())(kernel)

    text = jax.jit(step).lower(draw(8, 9, channels), draw(3, channels, outputs)).as_text()
    assert ("while" in text) == loops


def test_groups_of_channels_keep_their_gradient() -> None:
    x, kernel = draw(3, 9, 4), draw(3, 2, 6)

    def gradient(function: Any) -> Array:
        window = {"dimension_numbers": AXES, "feature_group_count": 2}
        return jax.grad(lambda w: jnp.sin(function(x, w, (1,), [(1, 1)], **window)).sum())(kernel)

    ours, theirs = gradient(convolve_time_with_fast_gradient), gradient(lax.conv_general_dilated)
    np.testing.assert_array_equal(ours, theirs)


def test_a_network_has_the_same_gradients() -> None:
    net, variables = small_net("tdnn", "tstp")
    fast = speed_up_kernel_gradients(net, one_device())
    assert fast.encoder.compute.convolve_time is convolve_time_with_fast_gradient
    check_gradients(net, fast, variables, [*range(13, 22)])
