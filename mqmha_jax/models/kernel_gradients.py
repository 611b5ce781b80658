"""Convolution over time and frequency whose kernel's gradient is a few matrix products per utterance.

XLA:CPU computes the gradient of a kernel as a convolution with a window as large as the maps, and first turns the maps
into another layout. With few channels that takes several times as long as matrix products of the same size
(``docs/performance.md``). One utterance at a time keeps the operands of the products in the processor's caches.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh
from jaxtyping import Float

from mqmha_jax.models.speaker_net import SpeakerNet, change_compute
from mqmha_jax.models.time_kernel_gradients import convolve_time_with_fast_gradient

_AXES = ("NHWC", "HWIO", "NHWC")
_Pairs = tuple[tuple[int, int], tuple[int, int]]


def speed_up_kernel_gradients(net: SpeakerNet, mesh: Mesh) -> SpeakerNet:
    """Returns the same network with kernel gradients as products, if the mesh is one CPU; otherwise the network.

    On several devices, a loop over the utterances would gather the divided batch.
    """
    compute = getattr(net.encoder, "compute", None)
    if compute is None or mesh.size > 1 or mesh.devices.flat[0].platform != "cpu":
        return net
    return change_compute(
        net, convolve_maps=convolve_with_fast_gradient, convolve_time=convolve_time_with_fast_gradient
    )


def convolve_with_fast_gradient(
    x: Float[Array, "B T F i"],
    kernel: Float[Array, "kt kf i o"],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    dimension_numbers: tuple[str, str, str] = _AXES,
) -> Float[Array, "B t f o"]:
    """Computes what ``lax.conv_general_dilated`` does, with another algorithm for the gradient of the kernel.

    Args:
      x: maps.
      kernel: the kernel.
      window_strides: over time and over frequency.
      padding: zeros before and after, in time and in frequency.
      dimension_numbers: the order of the axes; only that of the shapes here.
    """
    if dimension_numbers != _AXES:
        raise ValueError(f"The axes are {_AXES}, not {dimension_numbers}.")
    return _convolve(tuple(window_strides), tuple(map(tuple, padding)), x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolve(strides: tuple[int, int], padding: _Pairs, x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_AXES)


def _forward(strides: tuple[int, int], padding: _Pairs, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(strides, padding, x, kernel), (x, kernel)


def _backward(
    strides: tuple[int, int], padding: _Pairs, kept: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = kept
    pull = jax.vjp(lambda x: lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_AXES), x)[1]
    same_size = all(pair == (size // 2, size // 2) for pair, size in zip(padding, kernel.shape[:2], strict=True))
    if strides == (1, 1) and same_size:
        pair_taps = _pair_columns_of_taps
    else:
        pair_taps = functools.partial(_pair_each_tap, strides=strides, padding=padding)

    def add(total: Array, utterance: tuple[Array, Array]) -> tuple[Array, None]:
        return total + pair_taps(*utterance, kernel.shape), None

    total = jnp.zeros(kernel.shape, jnp.promote_types(x.dtype, jnp.float32))
    total, _ = lax.scan(add, total, (x, gradient))
    return pull(gradient)[0], total.astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)


def _pair_each_tap(
    maps: Float[Array, "T F i"],
    gradient: Float[Array, "t f o"],
    shape: tuple[int, ...],
    *,
    strides: tuple[int, int],
    padding: _Pairs,
) -> Float[Array, "kt kf i o"]:
    """Pairs, for each tap, every gradient with the input that the tap reads for it."""
    # ``lax.pad`` cuts where the padding is negative.
    padded = lax.pad(maps, jnp.zeros((), maps.dtype), [(*pair, 0) for pair in (*padding, (0, 0))])
    (frames, bands), (time_stride, band_stride) = gradient.shape[:2], strides

    def pair(dt: int, df: int) -> Array:
        last = dt + (frames - 1) * time_stride + 1, df + (bands - 1) * band_stride + 1
        return _pair(lax.slice(padded, (dt, df, 0), (*last, shape[2]), (time_stride, band_stride, 1)), gradient)

    return jnp.stack([jnp.stack([pair(dt, df) for df in range(shape[1])]) for dt in range(shape[0])])


def _pair_columns_of_taps(
    maps: Float[Array, "T F c"], gradient: Float[Array, "T F o"], shape: tuple[int, ...]
) -> Float[Array, "kt kf c o"]:
    """The same without strides: one product for all taps at one distance in frequency.

    Beside each position stand the gradients whose taps read that position, one for each distance in time. Wider
    products are faster, and shifting the smaller side moves less memory.
    """
    kt, kf = shape[:2]
    frames, bands = maps.shape[:2]
    # Tap dt reads frame t + dt - kt // 2 for the gradient at t.
    shifted = jnp.pad(gradient, ((kt // 2, kt // 2), (0, 0), (0, 0)))
    readers = jnp.stack([shifted[kt - 1 - dt : kt - 1 - dt + frames] for dt in range(kt)], axis=2)
    padded = jnp.pad(maps, ((0, 0), (kf // 2, kf // 2), (0, 0)))
    columns = [_pair(padded[:, df : df + bands], readers) for df in range(kf)]  # [c, kt, o] each
    return jnp.stack(columns).transpose(2, 0, 1, 3)


def _pair(left: Float[Array, "T F c"], right: Float[Array, "T F *outputs"]) -> Float[Array, " c *outputs"]:
    """Sums the products of two maps over their positions."""
    precise = jnp.promote_types(left.dtype, jnp.float32)
    return lax.dot_general(left, right, (((0, 1), (0, 1)), ((), ())), preferred_element_type=precise)
