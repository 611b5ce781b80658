"""Convolution over time and frequency whose kernel's gradient is one matrix product per utterance.

XLA:CPU computes the gradient of a kernel as a convolution with a window as large as the maps. Few channels make that
up to ten times as slow as a matrix product of the same size (``docs/performance.md``). One utterance at a time keeps
the operands of the products in the processor's caches; all utterances at once were slower than XLA's convolution.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh
from jaxtyping import Float

from mqmha_jax.models.speaker_net import SpeakerNet

_AXES = ("NHWC", "HWIO", "NHWC")


def speed_up_kernel_gradients(net: SpeakerNet, mesh: Mesh) -> SpeakerNet:
    """Returns the same network with kernel gradients as products, if the mesh is one CPU; otherwise the network.

    Several devices divide a batch between them, but a loop over the utterances of a divided batch would gather it.
    """
    compute = getattr(net.encoder, "compute", None)
    if compute is None or mesh.size > 1 or mesh.devices.flat[0].platform != "cpu":
        return net
    compute = dataclasses.replace(compute, convolve_maps=convolve_with_fast_gradient)
    return net.clone(encoder=net.encoder.clone(compute=compute))


def convolve_with_fast_gradient(
    x: Float[Array, "B T F i"],
    kernel: Float[Array, "kt kf i o"],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options: Any,
) -> Float[Array, "B t f o"]:
    """Computes what ``lax.conv_general_dilated`` does, with another algorithm for the gradient of the kernel.

    Strided convolutions and those that change the size of the maps are left to ``lax``.

    Args:
      x: maps.
      kernel: of odd sizes.
      window_strides: over time and over frequency.
      padding: zeros before and after, in time and in frequency.
      **options: others of ``lax.conv_general_dilated``.
    """
    keeps_size = all(pair == (size // 2, size // 2) for pair, size in zip(padding, kernel.shape[:2], strict=True))
    if tuple(window_strides) == (1, 1) and keeps_size and kernel.shape[0] > 1:
        return _convolve(x, kernel)
    return lax.conv_general_dilated(x, kernel, window_strides, padding, **options)


@jax.custom_vjp
def _convolve(x: Float[Array, "B T F i"], kernel: Float[Array, "kt kf i o"]) -> Float[Array, "B T F o"]:
    reach = [(size // 2, size // 2) for size in kernel.shape[:2]]
    return lax.conv_general_dilated(x, kernel, (1, 1), reach, dimension_numbers=_AXES)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel), (x, kernel)


def _backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = kept
    # The transposed kernel: input and output exchanged, both axes reversed.
    of_x = _convolve(gradient, jnp.swapaxes(kernel[::-1, ::-1], 2, 3))
    return of_x, _kernel_gradient(x, gradient, kernel.shape).astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)


def _kernel_gradient(x: Array, gradient: Array, shape: tuple[int, ...]) -> Float[Array, "kt kf i o"]:
    """Sums ``x[t + dt, f + df] gradient[t, f]`` over all positions, for each tap ``(dt, df)``.

    One product holds all taps: its left side has each position's neighbours in frequency, its right side the
    gradients whose taps reach that position in time. So both have few columns more than channels, and no sum is
    computed twice.
    """
    kt, kf, inputs, outputs = shape

    def add(total: Array, utterance: tuple[Array, Array]) -> tuple[Array, None]:
        maps, of_maps = utterance
        left = _neighbours(maps, kf, axis=1).reshape(-1, kf * inputs)
        right = _neighbours(of_maps, kt, axis=0)[..., ::-1, :].reshape(-1, kt * outputs)
        product = lax.dot_general(left, right, (((0,), (0,)), ((), ())), preferred_element_type=total.dtype)
        return total + product, None

    total = jnp.zeros((kf * inputs, kt * outputs), jnp.promote_types(x.dtype, jnp.float32))
    total, _ = lax.scan(add, total, (x, gradient))
    return total.reshape(kf, inputs, kt, outputs).transpose(2, 0, 1, 3)


def _neighbours(maps: Float[Array, "T F c"], size: int, *, axis: int) -> Float[Array, "T F size c"]:
    """Puts the ``size`` positions around each one along an axis beside it; zeros beyond the edges."""
    reach = size // 2
    padded = jnp.pad(maps, [(reach, reach) if i == axis else (0, 0) for i in range(3)])
    length = maps.shape[axis]
    return jnp.stack([lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(size)], axis=2)
