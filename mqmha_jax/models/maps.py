"""Maps over time and frequency, and the layers of two-dimensional encoders.

A :class:`Maps` knows which frames are real and how its frequencies are folded in memory, so a network composes layers
without handling masks or folding.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float

from mqmha_jax.models.folding import Folded, convolve, fold_of
from mqmha_jax.models.masked import Compute, MaskedBatchNorm, Moments, check_mask, mask_positions


class Maps(NamedTuple):
    """Channels at each time and frequency of a batch.

    Attributes:
      values: frequencies folded into the channels. Frames outside the mask and the filling of groups are meaningless.
      mask: which frames are real.
      bands: how the frequencies are folded.
    """

    values: Float[Array, "B T groups fold_c"]
    mask: Bool[Array, "B T"]
    bands: Folded

    @classmethod
    def from_fbank(
        cls, fbank: Float[Array, "B T F"], mask: Bool[Array, "B T"], *, channels: int, compute: Compute
    ) -> "Maps":
        """Makes maps of one channel, folded for a first layer of ``channels``; refuses a mask of other frames."""
        check_mask(fbank, mask)
        bands = Folded(fbank.shape[-1], fold_of(channels, compute.lanes))
        return cls(bands.wrap(fbank[..., None].astype(compute.dtype)), mask, bands)

    @property
    def channels(self) -> int:
        """Number of channels at each time and frequency."""
        return self.values.shape[-1] // self.bands.fold

    def unfold(self) -> Float[Array, "B T F c"]:
        """Returns plain maps, one position per frequency."""
        return self.bands.unwrap(self.values)

    def frames(self) -> Float[Array, "B T D"]:
        """Joins channels and frequencies of each frame: all frequencies of the first channel, then of the second."""
        return jnp.swapaxes(self.unfold(), -1, -2).reshape(*self.mask.shape, -1)

    def masked(self) -> "Maps":
        """Sets masked frames and the filling to zero, as a convolution's own padding is."""
        values = mask_positions(self.values, self.mask)
        if not self.bands.is_full:
            values = jnp.where(self.bands.real(self.channels)[None, None], values, 0)
        return self._replace(values=values)

    def convolve(
        self, kernel: Float[Array, "kt kf i o"], compute: Compute, *, stride: tuple[int, int] = (1, 1), lead: int = 0
    ) -> "Maps":
        """Convolves; output ``i`` is centred on input ``i * stride``, and masked frames count as zero.

        Args:
          kernel: odd sizes over time and frequency.
          compute: width of the hardware's vectors, which the folding of the result fills, and the algorithm.
          stride: over time and frequency.
          lead: lead of the result's folding; see ``folding.convolve``.
        """
        values, bands = convolve(
            self.masked().values,
            kernel,
            self.bands,
            stride=stride,
            fold=fold_of(kernel.shape[-1], compute.lanes),
            lead=lead,
            function=compute.convolve_maps,
        )
        return Maps(values, self.mask[:, :: stride[0]], bands)

    def normalize(self, norm: MaskedBatchNorm, *, train: bool) -> "Maps":
        """Batch-normalises each channel over all real frames and all frequencies."""
        values = norm(self.values, self.mask, train=train, moments=self._moments, repeats=self.bands.fold)
        return self._replace(values=values)

    def _moments(self, values: Float[Array, "B T groups fold_c"], mask: Bool[Array, "B T"]) -> Moments:
        x = Maps(values, mask, self.bands).masked().values
        # Real positions only: filling and padded frames are zero in both sums, so the count alone must leave them out.
        count = jnp.maximum(mask.sum() * self.bands.size, 1).astype(x.dtype)
        # A channel occurs ``fold`` times along the last axis.
        mean, mean_square = (y.sum((0, 1, 2)).reshape(self.bands.fold, -1).sum(axis=0) / count for y in (x, x * x))
        return Moments(mean, jnp.maximum(mean_square - mean * mean, 0), count)

    def apply(self, function: Callable[[Array], Array]) -> "Maps":
        """Applies an elementwise function, e.g. ``nn.relu``."""
        return self._replace(values=function(self.values))

    def plus(self, other: "Maps") -> "Maps":
        """Adds maps of the same shape."""
        return self._replace(values=self.values + other.fold_like(self).values)

    def fold_like(self, other: "Maps") -> "Maps":
        """Returns the same maps with the folding of ``other``."""
        if self.bands == other.bands:
            return self
        return Maps(other.bands.wrap(self.unfold()), self.mask, other.bands)

    def split_channels(self, num_parts: int) -> "list[Maps]":
        """Cuts the channels into equal runs."""
        # Channels of one frequency are adjacent in a folded vector, so a run of channels is cut within each frequency.
        values = self.values.reshape(*self.values.shape[:-1], self.bands.fold, -1)
        parts = jnp.split(values, num_parts, axis=-1)
        return [self._replace(values=part.reshape(*self.values.shape[:-1], -1)) for part in parts]


def join_channels(parts: Sequence[Maps]) -> Maps:
    """Puts the channels of maps of the same size one after another."""
    first = parts[0]
    leading = (*first.values.shape[:-1], first.bands.fold)
    values = [part.fold_like(first).values.reshape(*leading, -1) for part in parts]
    return first._replace(values=jnp.concatenate(values, axis=-1).reshape(*leading[:-1], -1))


class ConvNorm(nn.Module):
    """Convolution over (time, frequency), then batch normalisation.

    Attributes:
      channels: channels of the result.
      kernel_size: size over time and over frequency; odd.
      stride: stride over both, or a pair.
      compute: types, normalisation groups, width of the hardware's vectors.
      lead: lead of the result's folding, 0 or 1. In a pair of convolutions, 1 for the first makes both faster
        (``folding.convolve``); the numbers stay the same.
      use_bias: a bias per channel, which the normalisation makes superfluous but some foreign checkpoints have.
    """

    channels: int
    kernel_size: int
    stride: int | tuple[int, int]
    compute: Compute
    lead: int = 0
    use_bias: bool = False

    @nn.compact
    def __call__(self, maps: Maps, *, train: bool) -> Maps:
        """Convolves and normalises."""
        conv = Conv(self.channels, self.kernel_size, self.stride, self.compute, self.lead, self.use_bias, name="conv")
        maps = conv(maps)
        norm = self.compute.batch_norm("norm")
        return maps.normalize(norm, train=train)


class Conv(nn.Module):
    """Convolution over (time, frequency) alone; attributes as for ``ConvNorm``.

    Padding is explicit, because "SAME" aligns strides by the parity of the length: one more padded frame would shift
    every output.
    """

    channels: int
    kernel_size: int
    stride: int | tuple[int, int]
    compute: Compute
    lead: int = 0
    use_bias: bool = False

    @nn.compact
    def __call__(self, maps: Maps) -> Maps:
        """Convolves."""
        stride = (self.stride, self.stride) if isinstance(self.stride, int) else self.stride
        shape = (self.kernel_size, self.kernel_size, maps.channels, self.channels)
        kernel = self.param("kernel", nn.initializers.kaiming_normal(), shape)
        maps = maps.convolve(kernel, self.compute, stride=stride, lead=self.lead)
        if not self.use_bias:
            return maps
        bias = self.param("bias", nn.initializers.zeros, (self.channels,)).astype(maps.values.dtype)
        return maps._replace(values=maps.values + jnp.tile(bias, maps.bands.fold)[None, None, None])
