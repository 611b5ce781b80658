"""Convolution over time as one matrix product, for devices whose own convolution is not to be trusted."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


def convolve_as_product(
    x: Float[Array, "B T c"],
    kernel: Float[Array, "k _ o"],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    rhs_dilation: Sequence[int] = (1,),
    feature_group_count: int = 1,
    precision: lax.PrecisionLike = None,
    **unused: Any,
) -> Float[Array, "B t o"]:
    """Computes what ``lax.conv_general_dilated`` does for ``nn.Conv`` over one axis.

    Every frame gets its ``k`` neighbours beside it (``k`` times the memory), and one product applies the kernel.

    Args:
      x: frames.
      kernel: ``[k, c / feature_group_count, o]``.
      window_strides: distance between the frames of the result, one number.
      padding: zero frames before and after, one pair.
      rhs_dilation: distance between the neighbours, one number.
      feature_group_count: groups of channels that do not see each other.
      precision: of the product.
      **unused: what ``nn.Conv`` passes besides: the order of the axes and an input dilation of 1.
    """
    (stride,), (pair,), (dilation,) = window_strides, padding, rhs_dilation
    size, channels, outputs = kernel.shape
    frames = stack_neighbours(x, size, stride, pair, dilation)
    groups = feature_group_count
    frames = frames.reshape(*frames.shape[:-1], groups, channels)
    kernel = kernel.reshape(size, channels, groups, outputs // groups)
    result = jnp.einsum("btkgc,kcgo->btgo", frames, kernel, precision=precision)
    return result.reshape(*result.shape[:2], outputs)


def stack_neighbours(
    x: Float[Array, "B T c"], size: int, stride: int, padding: Sequence[int], dilation: int
) -> Float[Array, "B t k c"]:
    """Puts beside each frame of a convolution's result the frames that it reads.

    Args:
      x: frames.
      size: k, frames that one frame of the result reads.
      stride: distance between the frames of the result.
      padding: zero frames before and after.
      dilation: distance between the neighbours.
    """
    x = jnp.pad(x, ((0, 0), tuple(padding), (0, 0)))
    length = (x.shape[1] - (size - 1) * dilation - 1) // stride + 1
    reach = (length - 1) * stride + 1
    return jnp.stack([x[:, i * dilation : i * dilation + reach : stride] for i in range(size)], axis=-2)
