"""CAM++: a small two-dimensional front end, then a densely connected time-delay network whose channels are gated by
their context (Wang et al., arXiv 2303.00332).
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Bool, Float
from pydantic import PositiveInt

from mqmha_jax.errors import UserError
from mqmha_jax.models.encoders.resnet import ResidualBlock
from mqmha_jax.models.maps import ConvNorm, Maps
from mqmha_jax.models.masked import Compute, mask_positions

_BAND_STRIDE = (1, 2)  # the front end halves the frequencies three times and keeps every frame


class _NormRelu(nn.Module):
    """Batch normalisation, then ReLU."""

    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T c"], mask: Bool[Array, "B T"], train: bool) -> Float[Array, "B T c"]:
        norm = self.compute.batch_norm("norm")
        return nn.relu(norm(x, mask, train=train))


class _FrontEnd(nn.Module):
    """3x3 convolutions and four residual blocks, which leave an eighth of the frequencies."""

    width: int
    compute: Compute

    @nn.compact
    def __call__(self, maps: Maps, train: bool) -> Maps:
        maps = ConvNorm(self.width, 3, 1, self.compute, name="stem")(maps, train=train).apply(nn.relu)
        block_class = nn.remat(ResidualBlock, static_argnums=(2,)) if self.compute.rematerialize else ResidualBlock
        for stage in (1, 2):
            for i, stride in enumerate((_BAND_STRIDE, 1), start=1):
                maps = block_class(self.width, stride, False, self.compute, name=f"stage{stage}_block{i}")(maps, train)
        return ConvNorm(self.width, 3, _BAND_STRIDE, self.compute, name="reduce")(maps, train=train).apply(nn.relu)


class _ContextGate(nn.Module):
    """A factor per channel and segment of the utterance: from its mean and the mean of the segment."""

    channels: int
    segment_frames: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T c"], mask: Bool[Array, "B T"]) -> Float[Array, "B T o"]:
        num_frames = x.shape[1]
        x, mask = _segments(x, self.segment_frames), _segments(mask, self.segment_frames)
        counts = mask.sum(axis=2).astype(jnp.float32)[..., None]
        sums = mask_positions(x, mask).sum(axis=2, dtype=jnp.promote_types(x.dtype, jnp.float32))
        utterance = sums.sum(axis=1) / jnp.maximum(counts.sum(axis=1), 1)
        context = sums / jnp.maximum(counts, 1) + utterance[:, None]
        hidden = nn.relu(nn.Dense(x.shape[-1] // 2, dtype=self.compute.dtype, name="squeeze")(context))
        factor = nn.sigmoid(nn.Dense(self.channels, dtype=self.compute.dtype, name="excite")(hidden))
        return lax.slice_in_dim(jnp.repeat(factor, self.segment_frames, axis=1), 0, num_frames, axis=1)


def _segments(x: Array, length: int) -> Array:
    """``[B,T,...]`` -> ``[B,segments,length,...]``; the last segment is filled with zeros."""
    num_segments = (x.shape[1] + length - 1) // length
    filling = num_segments * length - x.shape[1]
    x = jnp.pad(x, [(0, 0), (0, filling), *[(0, 0)] * (x.ndim - 2)])
    return x.reshape(x.shape[0], num_segments, length, *x.shape[2:])


class _DenseLayer(nn.Module):
    """Sees all channels so far and adds a few: pointwise to a bottleneck, then a gated dilated convolution."""

    channels: int
    bottleneck: int
    dilation: int
    segment_frames: int
    compute: Compute

    @nn.compact
    def __call__(self, parts: list[Float[Array, "B T _"]], mask: Bool[Array, "B T"], train: bool) -> Array:
        # The parts are joined in here, so that rematerialisation keeps them once and not once per layer.
        x = _NormRelu(self.compute, name="before")(jnp.concatenate(parts, axis=-1), mask, train)
        x = nn.Dense(self.bottleneck, use_bias=False, dtype=self.compute.dtype, name="reduce")(x)
        x = _NormRelu(self.compute, name="inner")(x, mask, train)
        local = nn.Conv(
            self.channels,
            (3,),
            kernel_dilation=self.dilation,
            padding=((self.dilation, self.dilation),),
            use_bias=False,
            kernel_init=nn.initializers.kaiming_normal(),
            conv_general_dilated=self.compute.convolve_time,
            dtype=self.compute.dtype,
            name="local",
        )(mask_positions(x, mask))
        return local * _ContextGate(self.channels, self.segment_frames, self.compute, name="gate")(x, mask)


class CamPlusPlus(nn.Module):
    """CAM++; with the pooling ``tstp``, no bias and a normalised embedding the network of the paper.

    A frame of the result stands for two frames of the input: ``t = ceil(T / 2)``. The means of segments count real
    frames only, so padding is exact.

    Attributes:
      width: channels of the two-dimensional front end.
      first_channels: channels of the first time-delay layer.
      growth: channels that each dense layer adds.
      bottleneck_factor: a dense layer's bottleneck is this factor times ``growth``.
      block_sizes: dense layers per block; a layer behind each block halves the channels.
      dilations: of the blocks.
      segment_frames: frames (of the halved rate) whose mean gates their channels.
      compute: types, normalisation groups, rematerialisation by layer.
    """

    width: PositiveInt = 32
    first_channels: PositiveInt = 128
    growth: PositiveInt = 32
    bottleneck_factor: PositiveInt = 4
    block_sizes: tuple[PositiveInt, ...] = (12, 24, 16)
    dilations: tuple[PositiveInt, ...] = (1, 2, 2)
    segment_frames: PositiveInt = 100
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, fbank: Float[Array, "B T F"], mask: Bool[Array, "B T"], *, train: bool
    ) -> tuple[Float[Array, "B t D"], Bool[Array, "B t"]]:
        """Encodes filterbank frames.

        Args:
          fbank: mean-normalised log-mel features.
          mask: which frames are real.
          train: whether batch normalisation uses and collects the statistics of this batch.

        Returns:
          Frames in float32 and the mask over them; frame ``i`` is valid where input frame ``2 i`` is.

        Raises:
          UserError: if block sizes and dilations differ in number.
        """
        if len(self.block_sizes) != len(self.dilations):
            raise UserError(
                f"Encoder 'campplus': block_sizes has {len(self.block_sizes)} entries and dilations "
                f"{len(self.dilations)}; each block needs one of both."
            )
        dtype = self.compute.dtype
        maps = Maps.from_fbank(fbank, mask, channels=self.width, compute=self.compute)
        maps = _FrontEnd(self.width, self.compute, name="front")(maps, train)
        x = nn.Conv(
            self.first_channels,
            (5,),
            strides=2,
            padding=((2, 2),),
            use_bias=False,
            dtype=dtype,
            conv_general_dilated=self.compute.convolve_time,
            name="first",
        )(mask_positions(maps.frames(), mask))
        mask = mask[:, ::2]
        x = _NormRelu(self.compute, name="first_norm")(x, mask, train)
        layer_class = nn.remat(_DenseLayer, static_argnums=(3,)) if self.compute.rematerialize else _DenseLayer
        bottleneck = self.bottleneck_factor * self.growth
        for b, (size, dilation) in enumerate(zip(self.block_sizes, self.dilations, strict=True), start=1):
            parts = [x]
            for i in range(1, size + 1):
                layer = layer_class(
                    self.growth, bottleneck, dilation, self.segment_frames, self.compute, name=f"block{b}_layer{i}"
                )
                parts.append(layer(parts, mask, train))
            x = _NormRelu(self.compute, name=f"transit{b}_norm")(jnp.concatenate(parts, axis=-1), mask, train)
            x = nn.Dense(x.shape[-1] // 2, use_bias=False, dtype=dtype, name=f"transit{b}")(x)
        x = _NormRelu(self.compute, name="last_norm")(x, mask, train)
        return x.astype(jnp.promote_types(dtype, jnp.float32)), mask
