"""The ResNet family of speaker verification: no max-pooling, a 3x3 stem, four stages over time and frequency."""

from functools import partial
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float
from pydantic import PositiveInt

from mqmha_jax.errors import UserError
from mqmha_jax.models.encoders.simam import apply_simam
from mqmha_jax.models.maps import ConvNorm, Maps
from mqmha_jax.models.masked import Compute

Attention = Literal["none", "simam"]

_BOTTLENECK_EXPANSION = 4  # a bottleneck block widens its result by this factor (He et al., arXiv 1512.03385)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions (basic) or 1x1, 3x3, 1x1 (bottleneck), with a shortcut around them.

    Attributes:
      channels: channels of the 3x3 convolutions.
      stride: over time and frequency, or a pair.
      bottleneck: whether the block is a bottleneck, whose result has four times the channels.
      compute: types, normalisation groups, width of the hardware's vectors.
      attention: weighting of the result of the layers before the sum with the shortcut.
    """

    channels: int
    stride: int | tuple[int, int]
    bottleneck: bool
    compute: Compute
    attention: Attention = "none"

    @nn.compact
    def __call__(self, maps: Maps, train: bool) -> Maps:
        """Adds the result of the layers to the maps."""
        conv = partial(ConvNorm, compute=self.compute)
        if self.bottleneck:
            channels_out = self.channels * _BOTTLENECK_EXPANSION
            layers = [
                conv(self.channels, 1, 1, name="layer1"),
                conv(self.channels, 3, self.stride, name="layer2"),
                conv(channels_out, 1, 1, name="layer3"),
            ]
        else:
            channels_out = self.channels
            layers = [
                conv(self.channels, 3, self.stride, lead=1, name="layer1"),
                conv(self.channels, 3, 1, name="layer2"),
            ]
        inner = layers[0](maps, train=train)
        for layer in layers[1:]:
            inner = layer(inner.apply(nn.relu), train=train)
        if self.attention == "simam":
            inner = apply_simam(inner)
        if self.stride != 1 or maps.channels != channels_out:
            maps = conv(channels_out, 1, self.stride, name="shortcut")(maps, train=train)
        return inner.plus(maps).apply(nn.relu)


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
      attention: weighs the result of each block; "simam" has no parameters (Yang et al., 2021).
      compute: types, normalisation groups, rematerialisation by block.
    """

    stage_sizes: tuple[PositiveInt, ...] = (3, 4, 6, 3)
    block: Literal["basic", "bottleneck"] = "basic"
    width: PositiveInt = 32
    strides: tuple[PositiveInt, ...] = (1, 2, 2, 2)
    attention: Attention = "none"
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
        maps = Maps.from_fbank(fbank, mask, channels=self.width, compute=self.compute)
        maps = ConvNorm(self.width, 3, 1, self.compute, name="stem")(maps, train=train).apply(nn.relu)
        block_class = nn.remat(ResidualBlock, static_argnums=(2,)) if self.compute.rematerialize else ResidualBlock
        for stage, (size, stride) in enumerate(zip(self.stage_sizes, self.strides, strict=True), start=1):
            for i in range(1, size + 1):
                block = block_class(
                    self.width * 2 ** (stage - 1),
                    stride if i == 1 else 1,
                    self.block == "bottleneck",
                    self.compute,
                    self.attention,
                    name=f"stage{stage}_block{i}",
                )
                maps = block(maps, train)
        return maps.frames().astype(jnp.promote_types(self.compute.dtype, jnp.float32)), maps.mask
