"""Res2Net and its enhanced forms ERes2Net and ERes2NetV2 over log-mel filterbanks."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float
from pydantic import PositiveInt

from mqmha_jax.errors import UserError
from mqmha_jax.models.encoders.res2_block import AttentiveFusion, Res2Block
from mqmha_jax.models.maps import Conv, ConvNorm, Maps
from mqmha_jax.models.masked import Compute

_STRIDES = (1, 2, 2, 2)  # over time and frequency, of the first block of each stage
_FIRST_ATTENDING_STAGE = 3
_WIDTH_UNIT = 64  # a stage of 64 channels has parts of ``base_width`` channels


class Res2Net(nn.Module):
    """Four stages of Res2Net blocks (Gao et al., arXiv 1904.01169), with what ERes2Net adds to them.

    The result has ``t = ceil(T / 8)`` frames of ``D = 8 * width * expansion * ceil(F / 8)`` values, channel-major.

    Attributes:
      stage_sizes: residual blocks per stage.
      width: channels of the first stage before expansion; every later stage doubles them.
      base_width: channels of one part of a block in a stage of 64 channels.
      scale: parts of a block.
      expansion: a block's result has this many times the channels of its stage.
      enhanced: every part of a block is convolved, and in the last two stages the parts meet by attentive fusion
        (ERes2Net, Chen et al., arXiv 2305.12838).
      fusion: which stages' results are fused from the bottom up: "none"; "all" four (ERes2Net); the "last" two
        (ERes2NetV2, Chen et al., arXiv 2406.02167).
      compute: types, normalisation groups, rematerialisation by block.
    """

    stage_sizes: tuple[PositiveInt, ...] = (3, 4, 6, 3)
    width: PositiveInt = 32
    base_width: PositiveInt = 32
    scale: PositiveInt = 2
    expansion: PositiveInt = 2
    enhanced: bool = False
    fusion: Literal["none", "all", "last"] = "none"
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
          Frames in float32 and the mask over them; frame ``i`` is valid where input frame ``8 i`` is.

        Raises:
          UserError: if there are not four stages, or the parts of a block would have no channel.
        """
        self._check()
        maps = Maps.from_fbank(fbank, mask, channels=self.width, compute=self.compute)
        maps = ConvNorm(self.width, 3, 1, self.compute, name="stem")(maps, train=train).apply(nn.relu)
        fused = maps
        first_fused = {"none": len(_STRIDES), "all": 1, "last": len(_STRIDES) - 1}[self.fusion]
        for stage, stride in enumerate(_STRIDES, start=1):
            maps = self._run_stage(stage, stride, maps, train)
            if stage > first_fused:
                # What was fused so far comes down to the size of this stage's result, then both become one.
                reduce = Conv(maps.channels, 3, stride, self.compute, name=f"stage{stage - 1}_reduce")
                fused = AttentiveFusion(self.compute, name=f"stage{stage}_fusion")(maps, reduce(fused), train)
            else:
                fused = maps
        return fused.frames().astype(jnp.promote_types(self.compute.dtype, jnp.float32)), fused.mask

    def _run_stage(self, stage: int, stride: int, maps: Maps, train: bool) -> Maps:
        block_class = nn.remat(Res2Block, static_argnums=(2,)) if self.compute.rematerialize else Res2Block
        channels = self.width * 2 ** (stage - 1)
        for i in range(1, self.stage_sizes[stage - 1] + 1):
            maps = block_class(
                width=channels * self.base_width // _WIDTH_UNIT,
                scale=self.scale,
                channels_out=channels * self.expansion,
                stride=stride if i == 1 else 1,
                attend=self.enhanced and stage >= _FIRST_ATTENDING_STAGE,
                convolve_last=self.enhanced,
                compute=self.compute,
                name=f"stage{stage}_block{i}",
            )(maps, train)
        return maps

    def _check(self) -> None:
        if len(self.stage_sizes) != len(_STRIDES):
            raise UserError(
                f"Encoder 'res2net': stage_sizes has {len(self.stage_sizes)} entries; give one for each of the "
                f"{len(_STRIDES)} stages."
            )
        if self.width * self.base_width < _WIDTH_UNIT:
            raise UserError(
                f"Encoder 'res2net': with width={self.width} and base_width={self.base_width} a part of the first "
                f"stage's blocks has no channel; width * base_width must be at least {_WIDTH_UNIT}."
            )
