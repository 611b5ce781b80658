"""Convolution over time whose kernel's gradient is one matrix product for every few utterances.

XLA:CPU first turns the frames into another layout, as over time and frequency (``kernel_gradients.py``). That is slow
with multiples of 256 channels; with other numbers XLA's own gradient is as fast or faster (``docs/performance.md``).
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from mqmha_jax.models.time_products import stack_neighbours

_AXES = ("NWC", "WIO", "NWC")
_ALIASED = 256  # frames of a multiple of 256 channels compete for the same cache lines when XLA transposes them
_ROWS = 8  # utterances of a product: more leave the processor's caches, fewer make too small a product


class _Window(NamedTuple):
    stride: int
    padding: tuple[int, int]
    dilation: int


def convolve_time_with_fast_gradient(
    x: Float[Array, "B T c"],
    kernel: Float[Array, "k _ o"],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    rhs_dilation: Sequence[int] = (1,),
    feature_group_count: int = 1,
    **unused: Any,
) -> Float[Array, "B t o"]:
    """Computes what ``lax.conv_general_dilated`` does, with another algorithm for the gradient of the kernel.

    Args:
      x: frames.
      kernel: ``[k, c / feature_group_count, o]``.
      window_strides: distance between the frames of the result, one number.
      padding: zero frames before and after, one pair.
      rhs_dilation: distance between the neighbours, one number.
      feature_group_count: groups of channels that do not see each other; with several, or without a multiple of
        256 channels on either side, the gradient stays XLA's.
      **unused: what ``nn.Conv`` passes besides: the order of the axes, an input dilation of 1, a precision.
    """
    (stride,), ((before, after),), (dilation,) = window_strides, padding, rhs_dilation
    window = _Window(stride, (before, after), dilation)
    slow = any(channels % _ALIASED == 0 for channels in kernel.shape[1:])
    if feature_group_count > 1 or not slow:
        return _plain(window, x, kernel, feature_group_count)
    return _convolve(window, x, kernel)


def _plain(window: _Window, x: Array, kernel: Array, groups: int = 1) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (window.stride,),
        (window.padding,),
        rhs_dilation=(window.dilation,),
        dimension_numbers=_AXES,
        feature_group_count=groups,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve(window: _Window, x: Array, kernel: Array) -> Array:
    return _plain(window, x, kernel)


def _forward(window: _Window, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(window, x, kernel), (x, kernel)


def _backward(window: _Window, kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = kept
    pull = jax.vjp(lambda x: _plain(window, x, kernel), x)[1]
    precise = jnp.promote_types(x.dtype, jnp.float32)

    def add(total: Array, rows: tuple[Array, Array]) -> tuple[Array, None]:
        x, gradient = rows
        neighbours = stack_neighbours(x, len(kernel), *window)
        neighbours = neighbours.reshape(*gradient.shape[:2], -1)
        sides = (((0, 1), (0, 1)), ((), ()))  # sums over utterances and frames
        return total + lax.dot_general(neighbours, gradient, sides, preferred_element_type=precise), None

    total = jnp.zeros((kernel.shape[0] * kernel.shape[1], kernel.shape[2]), precise)
    whole = len(x) - len(x) % _ROWS

    def cut(y: Array) -> Array:
        return y[:whole].reshape(-1, _ROWS, *y.shape[1:])

    total, _ = lax.scan(add, total, (cut(x), cut(gradient)))
    if whole < len(x):
        total, _ = add(total, (x[whole:], gradient[whole:]))
    return pull(gradient)[0], total.reshape(kernel.shape).astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)
