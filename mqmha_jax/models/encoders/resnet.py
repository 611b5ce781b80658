"""The ResNet family of speaker verification: no max-pooling, a 3x3 stem, four stages over time and frequency."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float
from pydantic import PositiveInt

from mqmha_jax.errors import UserError
from mqmha_jax.models.folding import Folded, convolve, fold_of
from mqmha_jax.models.masked import Compute, MaskedBatchNorm, mask_positions

Maps = tuple[Float[Array, "B t groups_out fold_o"], Bool[Array, "B t"], Folded]
"""Maps over time and folded frequency, which frames of them are real, and how they are folded."""

_BOTTLENECK_EXPANSION = 4  # a bottleneck block widens its result by this factor (He et al., arXiv 1512.03385)


class _Conv(nn.Module):
    """Convolution over (time, frequency), without bias.

    Padding is written out because "SAME" aligns strides by the parity of the length: one more padded frame would then
    shift every output. Here output frame ``i`` is always centred on input frame ``i * stride``.
    """

    channels: int
    kernel_size: int
    stride: int
    fold: int
    lead: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T groups fold_c"], axis: Folded
    ) -> tuple[Float[Array, "B t groups_out fold_o"], Folded]:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1] // axis.fold, self.channels)
        kernel = self.param("kernel", nn.initializers.kaiming_normal(), shape)
        return convolve(x, kernel, axis, stride=self.stride, fold=self.fold, lead=self.lead)


class _MaskedConv(nn.Module):
    """Convolution that sees zeros in masked frames, then batch normalisation."""

    channels: int
    kernel_size: int
    stride: int
    fold: int
    compute: Compute
    lead: int = 0

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T groups fold_c"], mask: Bool[Array, "B T"], axis: Folded, *, train: bool
    ) -> Maps:
        conv = _Conv(self.channels, self.kernel_size, self.stride, self.fold, self.lead, name="conv")
        x, axis = conv(mask_positions(x, mask, axis), axis)
        mask = mask[:, :: self.stride]
        norm = MaskedBatchNorm(groups=self.compute.batch_norm_groups, dtype=self.compute.dtype, name="norm")
        return norm(x, mask, train=train, positions=axis), mask, axis


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions (basic) or 1x1, 3x3, 1x1 (bottleneck), with a shortcut around them."""

    channels: int
    stride: int
    bottleneck: bool
    compute: Compute

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T groups fold_c"], mask: Bool[Array, "B T"], axis: Folded, train: bool
    ) -> Maps:
        channels_out = self.channels * (_BOTTLENECK_EXPANSION if self.bottleneck else 1)
        if self.bottleneck:
            layers = [(self.channels, 1, 1), (self.channels, 3, self.stride), (channels_out, 1, 1)]
        else:
            layers = [(self.channels, 3, self.stride), (channels_out, 3, 1)]
        fold = fold_of(self.channels, self.compute.lanes)
        y, mask_out, axis_out = x, mask, axis
        # Between two 3x3 convolutions the groups lie one place beside those of the shortcut; see ``convolve``.
        leads = (0, 0, 0) if self.bottleneck else (1, 0)
        for i, ((channels, kernel_size, stride), lead) in enumerate(zip(layers, leads, strict=True), start=1):
            layer = _MaskedConv(channels, kernel_size, stride, fold, self.compute, lead, name=f"layer{i}")
            y, mask_out, axis_out = layer(nn.relu(y) if i > 1 else y, mask_out, axis_out, train=train)
        if self.stride > 1 or x.shape[-1] // axis.fold != channels_out:
            shortcut = _MaskedConv(channels_out, 1, self.stride, axis_out.fold, self.compute, name="shortcut")
            x, *_ = shortcut(x, mask, axis, train=train)
        return nn.relu(x + y), mask_out, axis_out


class ResNet(nn.Module):
    """ResNet over log-mel filterbanks; one class for the whole family (He et al., arXiv 1512.03385).

    With the default strides the result has ``t = ceil(T / 8)`` frames of ``D = 8 * width * expansion * ceil(F / 8)``
    values, channel-major: all frequencies of the first channel, then of the second. Attention heads cut ``D`` into
    runs of channels, so this order is part of the model.

    Attributes:
      stage_sizes: residual blocks per stage.
      block: ``"basic"`` (two 3x3 convolutions) or ``"bottleneck"`` (1x1, 3x3, 1x1; four times the channels).
      width: channels of the first stage; every later stage doubles them.
      strides: stride over time and frequency of the first block of each stage.
      compute: types, normalisation groups, rematerialisation by block.
    """

    stage_sizes: tuple[PositiveInt, ...] = (3, 4, 6, 3)
    block: Literal["basic", "bottleneck"] = "basic"
    width: PositiveInt = 32
    strides: tuple[PositiveInt, ...] = (1, 2, 2, 2)
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
          Frames in float32 and the mask over them; frame ``i`` is valid where input frame ``i * stride`` is.

        Raises:
          UserError: if stage sizes and strides differ in number.
        """
        if len(self.stage_sizes) != len(self.strides):
            raise UserError(
                f"Encoder 'resnet': stage_sizes has {len(self.stage_sizes)} entries and strides {len(self.strides)}; "
                "each stage needs one of both."
            )
        fold = fold_of(self.width, self.compute.lanes)
        axis = Folded(fbank.shape[-1], fold)
        x = axis.wrap(fbank[..., None].astype(self.compute.dtype))
        x, mask, axis = _MaskedConv(self.width, 3, 1, fold, self.compute, name="stem")(x, mask, axis, train=train)
        x = nn.relu(x)
        block_class = nn.remat(_ResidualBlock, static_argnums=(3, 4)) if self.compute.rematerialize else _ResidualBlock
        for stage, (size, stride) in enumerate(zip(self.stage_sizes, self.strides, strict=True), start=1):
            for i in range(1, size + 1):
                block = block_class(
                    self.width * 2 ** (stage - 1),
                    stride if i == 1 else 1,
                    self.block == "bottleneck",
                    self.compute,
                    name=f"stage{stage}_block{i}",
                )
                x, mask, axis = block(x, mask, axis, train)
        frames = jnp.swapaxes(axis.unwrap(x), -1, -2).reshape(*x.shape[:2], -1)
        return frames.astype(jnp.promote_types(self.compute.dtype, jnp.float32)), mask
