"""Adjacent frequencies side by side in the channels, so that few channels fill wide vectors.

A TPU stores and multiplies arrays in vectors of 128 channels, so an array with 32 channels is three quarters padding,
in memory and in the matrix units. Folding puts four adjacent frequencies of 32 channels into one position of 128. The
convolution stays the same: its larger kernel holds each weight at the places of the folded inputs that the weight
multiplies, and zeros elsewhere. ``models/maps.py`` hides all of this from the networks.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Folded:
    """An axis of positions with channels, ``[..., size, c]``, held as ``[..., groups, fold * c]``.

    Attributes:
      size: number of positions.
      fold: adjacent positions in one group. Zeros fill the places of the first and the last group without a position.
      lead: empty places before the first position in the first group, 0 or 1.
    """

    size: int
    fold: int = 1
    lead: int = 0

    @property
    def groups(self) -> int:
        """Number of groups, with room for a lead of one even if there is none.

        Input and output of a layer then have equally many groups, for which XLA computes the kernel's gradient fast.
        """
        return -(-(self.size + min(1, self.fold - 1)) // self.fold)

    @property
    def is_full(self) -> bool:
        """Whether every place of every group holds a position."""
        return self.groups * self.fold == self.size

    def wrap(self, x: Float[Array, "*rest size c"]) -> Float[Array, "*rest groups fold_c"]:
        """Folds; the filling is zero."""
        behind = self.groups * self.fold - self.size - self.lead
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(self.lead, behind), (0, 0)])
        return x.reshape(*x.shape[:-2], self.groups, -1)

    def unwrap(self, x: Float[Array, "*rest groups fold_c"]) -> Float[Array, "*rest size c"]:
        """Undoes :meth:`wrap`."""
        x = x.reshape(*x.shape[:-2], self.groups * self.fold, -1)
        return x[..., self.lead : self.lead + self.size, :]

    def real(self, channels: int) -> Bool[np.ndarray, "groups fold_c"]:
        """Where a folded array of ``channels`` per position holds a position, not filling."""
        position = np.arange(self.groups * self.fold).reshape(self.groups, self.fold) - self.lead
        return np.repeat((position >= 0) & (position < self.size), channels, axis=1)


def fold_of(channels: int, lanes: int) -> int:
    """Number of positions of ``channels`` that fill a vector of ``lanes``.

    Always a power of two, so that strides and folds divide each other.
    """
    return 1 << max(0, (lanes // channels).bit_length() - 1)


def convolve(
    x: Float[Array, "B T groups fold_i"],
    kernel: Float[Array, "kt kf i o"],
    bands: Folded,
    *,
    stride: tuple[int, int],
    fold: int,
    lead: int = 0,
    function: Callable[..., Array] | None = None,
) -> tuple[Float[Array, "B t groups_out fold_o"], Folded]:
    """Convolution over (time, folded frequency), output position ``p`` centred on input position ``p * stride``.

    Args:
      x: in the type to compute in; its filling must be zero.
      kernel: the kernel over unfolded frequencies, of odd sizes.
      bands: how the frequencies of ``x`` are folded.
      stride: over time and over frequency.
      fold: of the result, if the stride allows it; otherwise the result has the next larger fold that it allows.
      lead: of the result. With folds of ``n`` on both sides, an output group reads ``n + 2`` inputs of a kernel of
        three. They spread over three input groups, or over only two if input and output groups are not aligned.
      function: computes the convolution; None: ``lax.conv_general_dilated``.

    Returns:
      The result, in the type of ``x``, and how it is folded. Its filling is meaningless.
    """
    time_stride, band_stride = stride
    fold = max(fold, bands.fold // math.gcd(bands.fold, band_stride))
    result = Folded(-(-bands.size // band_stride), fold, min(lead, fold - 1))
    groups_stride = band_stride * fold // bands.fold
    where, first = _places(kernel.shape[1], band_stride, bands, result)
    if bands.fold > 1 or fold > 1:
        kernel = _fold_kernel(kernel, where)
    last = first + where.shape[1] - 1
    time_reach = kernel.shape[0] // 2
    y = (function or lax.conv_general_dilated)(
        x,
        kernel.astype(x.dtype),
        (time_stride, groups_stride),
        ((time_reach, time_reach), (-first, (result.groups - 1) * groups_stride + last - (bands.groups - 1))),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y, result


def _places(size: int, stride: int, bands: Folded, result: Folded) -> tuple[Float[np.ndarray, "k taps a b"], int]:
    """Which weight of a kernel connects place ``a`` of an input group with place ``b`` of an output group.

    Args:
      size: of the kernel, over frequency.
      stride: over frequency.
      bands: the input's frequencies.
      result: the output's frequencies.

    Returns:
      1 at ``[k, tap, a, b]`` if weight ``k`` connects them, from the input group ``tap + first``, counted from the
      group at the output group's stride; and ``first``, the first group that any weight reads.
    """
    centre = (np.arange(result.fold) - result.lead) * stride + bands.lead
    group, place = np.divmod(centre + np.arange(size)[:, None] - size // 2, bands.fold)
    first = int(group.min())
    where = np.zeros((size, int(group.max()) - first + 1, bands.fold, result.fold), np.float32)
    for k, out in np.ndindex(group.shape):
        where[k, group[k, out] - first, place[k, out], out] = 1
    return where, first


def _fold_kernel(
    kernel: Float[Array, "kt kf i o"], where: Float[np.ndarray, "kf taps a b"]
) -> Float[Array, "kt taps fold_i fold_o"]:
    """Puts each weight at its places. Each sum has one nonzero term at most, so it rounds nothing."""
    folded = jnp.einsum("tkio,kgab->tgaibo", kernel, where.astype(kernel.dtype), precision=lax.Precision.HIGHEST)
    kt, taps, a, i, b, o = folded.shape
    return folded.reshape(kt, taps, a * i, b * o)
