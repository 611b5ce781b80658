"""Adjacent frequencies side by side in the channels, so that few channels fill wide vectors.

A TPU holds arrays and multiplies in vectors of 128 channels. Of an array with 32 channels three quarters are padding,
in its memory and in its matrix units. Folded, four adjacent frequencies of 32 channels become one position of 128. The
convolution over them is the same one: its larger kernel holds every weight where the folded inputs of that weight lie,
and zeros elsewhere.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float


@dataclasses.dataclass(frozen=True)
class Folded:
    """An axis of positions with channels, ``[..., size, c]``, held as ``[..., groups, fold * c]``.

    Attributes:
      size: positions.
      fold: adjacent positions in one group; the first and the last group may have fewer and are filled.
      lead: places before the first position in the first group, 0 or 1.
    """

    size: int
    fold: int = 1
    lead: int = 0

    @property
    def groups(self) -> int:
        """Groups of positions; with room for a lead of one even where there is none.

        For where input and output have as many groups, XLA has a fast gradient of the kernel.
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
        """Where a folded array with so many channels holds a position and no filling."""
        position = np.arange(self.groups * self.fold).reshape(self.groups, self.fold) - self.lead
        return np.repeat((position >= 0) & (position < self.size), channels, axis=1)


def fold_of(channels: int, lanes: int) -> int:
    """How many positions of so many channels fill a vector: a power of two, so that strides and folds fit together."""
    return 1 << max(0, (lanes // channels).bit_length() - 1)


def convolve(
    x: Float[Array, "B T groups fold_i"],
    kernel: Float[Array, "kt kf i o"],
    axis: Folded,
    *,
    stride: int,
    fold: int,
    lead: int = 0,
) -> tuple[Float[Array, "B t groups_out fold_o"], Folded]:
    """Convolution over (time, folded frequency), output position ``p`` centred on input position ``p * stride``.

    Args:
      x: zero where it holds no position; of the type to compute in.
      kernel: as for frequencies that are not folded, of odd sizes.
      axis: how the frequencies of ``x`` are folded.
      stride: over both axes.
      fold: wanted of the result; it gets the next larger one where the stride needs that.
      lead: wanted of the result. With folds of ``n`` on both sides, an output group reads ``n + 2`` inputs of a kernel
        of three: parts of three groups, but of only two if groups of inputs and outputs are not aligned.

    Returns:
      The result, of the type of ``x``, and how it is folded. What fills its groups is meaningless.
    """
    fold = max(fold, axis.fold // math.gcd(axis.fold, stride))
    result = Folded(-(-axis.size // stride), fold, min(lead, fold - 1))
    groups_stride = stride * fold // axis.fold
    where, first = _places(kernel.shape[1], stride, axis, result)
    if axis.fold > 1 or fold > 1:
        kernel = _folded_kernel(kernel, where)
    last = first + where.shape[1] - 1
    time_reach = kernel.shape[0] // 2
    y = lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (stride, groups_stride),
        ((time_reach, time_reach), (-first, (result.groups - 1) * groups_stride + last - (axis.groups - 1))),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y, result


def _places(size: int, stride: int, axis: Folded, result: Folded) -> tuple[Float[np.ndarray, "k taps a b"], int]:
    """Which weight of a kernel goes from place ``a`` of an input group to place ``b`` of an output group.

    Returns:
      1 where weight ``k`` does so from the input group ``tap + first``, counted from the one that the output group's
      stride leads to; and ``first``.
    """
    centre = (np.arange(result.fold) - result.lead) * stride + axis.lead
    group, place = np.divmod(centre + np.arange(size)[:, None] - size // 2, axis.fold)
    first = int(group.min())
    where = np.zeros((size, int(group.max()) - first + 1, axis.fold, result.fold), np.float32)
    for k, out in np.ndindex(group.shape):
        where[k, group[k, out] - first, place[k, out], out] = 1
    return where, first


def _folded_kernel(
    kernel: Float[Array, "kt kf i o"], where: Float[np.ndarray, "kf taps a b"]
) -> Float[Array, "kt taps fold_i fold_o"]:
    """Every sum has one term, so nothing is rounded."""
    folded = jnp.einsum("tkio,kgab->tgaibo", kernel, where.astype(kernel.dtype), precision=lax.Precision.HIGHEST)
    kt, taps, a, i, b, o = folded.shape
    return folded.reshape(kt, taps, a * i, b * o)
