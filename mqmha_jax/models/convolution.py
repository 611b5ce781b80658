"""Convolution of images, with a gradient for its kernel that suits CPUs."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

Pair = tuple[int, int]

_CHUNK = 1 << 19
"""Values of the patches that are held at once: 2 MB in float32, about what a core's own cache holds."""


def convolution(
    x: Float[Array, "B H W i"], kernel: Float[Array, "kh kw i o"], strides: Pair, padding: tuple[Pair, Pair]
) -> Float[Array, "B h w o"]:
    """``lax.conv_general_dilated`` over NHWC and HWIO.

    Args:
      x: images.
      kernel: of the type of ``x``.
      strides: over H and W.
      padding: before and after each of the two.
    """
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution_by_patches(
    x: Float[Array, "B H W i"], kernel: Float[Array, "kh kw i o"], strides: Pair, padding: tuple[Pair, Pair]
) -> Float[Array, "B h w o"]:
    """The same; the gradient for the kernel sums matrix products over the patches of a few rows at a time.

    Otherwise it is a convolution whose window is the whole image, which XLA:CPU computes on one core unless the kernel
    is large. One after another, the images must lie on one device.
    """
    return convolution(x, kernel, strides, padding)


def _forward(x: Array, kernel: Array, strides: Pair, padding: tuple[Pair, Pair]) -> tuple[Array, tuple[Array, Array]]:
    return convolution(x, kernel, strides, padding), (x, kernel)


def _backward(
    strides: Pair, padding: tuple[Pair, Pair], kept: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = kept
    (of_x,) = jax.linear_transpose(lambda x: convolution(x, kernel, strides, padding), x)(gradient)
    if kernel.size >= _CHUNK:  # enough of them to keep all cores busy
        (of_kernel,) = jax.linear_transpose(lambda kernel: convolution(x, kernel, strides, padding), kernel)(gradient)
    else:
        window = kernel.shape[0], kernel.shape[1]
        of_kernel = _sum_over_patches(x, gradient, window, strides, padding).astype(kernel.dtype)
    return of_x, of_kernel


convolution_by_patches.defvjp(_forward, _backward)


def _sum_over_patches(
    x: Float[Array, "B H W i"],
    gradient: Float[Array, "B h w o"],
    window: Pair,
    strides: Pair,
    padding: tuple[Pair, Pair],
) -> Float[Array, "kh kw i o"]:
    """The kernel's gradient, in float32 or wider; every run takes some rows of one image."""
    batch, height, width, channels = gradient.shape
    runs = -(-height // max(1, _CHUNK // (width * window[0] * window[1] * x.shape[-1])))
    rows = -(-height // runs)  # of the result, in a run
    extent = [(n - 1) * stride + size for n, stride, size in zip((rows, width), strides, window, strict=True)]
    # The last run may reach beyond the image: rows of zeros, whose gradient is zero.
    zero = jnp.zeros((), x.dtype)
    gradient = lax.pad(gradient, zero, ((0, 0, 0), (0, runs * rows - height, 0), (0, 0, 0), (0, 0, 0)))
    needed = ((runs - 1) * rows * strides[0] + extent[0], extent[1])
    ends = [n - low - size for n, (low, _), size in zip(needed, padding, x.shape[1:3], strict=True)]
    x = lax.pad(x, zero, ((0, 0, 0), (padding[0][0], ends[0], 0), (padding[1][0], ends[1], 0), (0, 0, 0)))

    def add_run(total: Array, run: Array) -> tuple[Array, None]:
        example, first = run // runs, run % runs * rows
        image = lax.dynamic_slice(x, (example, first * strides[0], 0, 0), (1, *extent, x.shape[-1]))[0]
        taps = [
            image[i : i + (rows - 1) * strides[0] + 1 : strides[0], j : j + (width - 1) * strides[1] + 1 : strides[1]]
            for i in range(window[0])
            for j in range(window[1])
        ]
        change = lax.dynamic_slice(gradient, (example, first, 0, 0), (1, rows, width, channels))[0]
        patches = jnp.concatenate(taps, axis=-1)
        return total + jnp.einsum("hwi,hwo->io", patches, change, preferred_element_type=total.dtype), None

    start = jnp.zeros((window[0] * window[1] * x.shape[-1], channels), jnp.promote_types(x.dtype, jnp.float32))
    total, _ = lax.scan(add_run, start, jnp.arange(batch * runs))
    return total.reshape(*window, -1, channels)
