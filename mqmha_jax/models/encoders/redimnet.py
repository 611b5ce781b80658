"""ReDimNet: maps over time and frequency, and sequences over time, that turn into each other (arXiv 2407.18223)."""

import itertools
import math
import operator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float
from pydantic import PositiveInt

from mqmha_jax.errors import UserError
from mqmha_jax.models.encoders.time_context import LAYER_NORM_EPSILON, NUM_HEADS, TimeContext
from mqmha_jax.models.masked import Compute, check_mask, mask_positions, masked_mean

_EXPANSION_NORM_EPSILON = 1e-6  # the original's normalisation after an expanded stage
_SE_CHANNELS = (32, 64)  # smallest and largest bottleneck of the frequency-wise squeeze and excitation


class Stage(NamedTuple):
    """One stage of a ReDimNet.

    Attributes:
      stride: over frequency; the channels grow by the same factor, so that their product stays.
      num_blocks: two-dimensional blocks.
      expansion: the blocks have this many times the channels.
      reduction: the block over time has the sequence's values divided by this; None: no such block.
    """

    stride: PositiveInt
    num_blocks: PositiveInt
    expansion: PositiveInt
    reduction: PositiveInt | None


BlockKind = Literal["convnext", "resnet"]


class _ContextConv(nn.Module):
    """A 3x3 convolution over time and frequency, in groups of channels, that sees zeros in masked frames."""

    channels: int
    group_divisor: int
    use_bias: bool
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T f c"], mask: Bool[Array, "B T"]) -> Float[Array, "B T f o"]:
        conv = nn.Conv(
            self.channels,
            (3, 3),
            padding=((1, 1), (1, 1)),
            feature_group_count=self.channels // self.group_divisor,
            use_bias=self.use_bias,
            dtype=self.compute.dtype,
        )
        nn.share_scope(self, conv)
        return conv(mask_positions(x, mask))


class _ConvNextBlock(nn.Module):
    """A grouped convolution, normalisation, GELU and a 1x1 convolution, beside the input."""

    group_divisor: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T f c"], mask: Bool[Array, "B T"], train: bool) -> Float[Array, "B T f c"]:
        channels = x.shape[-1]
        y = _ContextConv(channels, self.group_divisor, True, self.compute, name="context")(x, mask)
        y = nn.gelu(self.compute.batch_norm("norm")(y, mask, train=train), approximate=False)
        return x + nn.Dense(channels, dtype=self.compute.dtype, name="pointwise")(y)


class _ResidualBlock(nn.Module):
    """Two grouped convolutions, each with a 1x1 convolution behind it, beside the input."""

    group_divisor: int
    squeeze: bool
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T f c"], mask: Bool[Array, "B T"], train: bool) -> Float[Array, "B T f c"]:
        channels = x.shape[-1]
        y = x
        for i in (1, 2):
            y = _ContextConv(channels, self.group_divisor, False, self.compute, name=f"conv{i}")(y, mask)
            y = nn.Dense(channels, dtype=self.compute.dtype, name=f"pointwise{i}")(y)
            y = self.compute.batch_norm(f"norm{i}")(nn.relu(y) if i == 1 else y, mask, train=train)
        if self.squeeze:
            y = _FrequencySqueeze(self.compute, name="squeeze")(y, mask)
        return nn.relu(x + y)


class _FrequencySqueeze(nn.Module):
    """Each frequency times a factor that follows from the utterance's mean of all frequencies."""

    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T f c"], mask: Bool[Array, "B T"]) -> Float[Array, "B T f c"]:
        smallest, largest = _SE_CHANNELS
        width = min(largest, max(x.shape[-1], smallest))
        mean = masked_mean(x, mask).mean(axis=-1)
        hidden = nn.relu(nn.Dense(width, dtype=self.compute.dtype, name="squeeze")(mean))
        factor = nn.sigmoid(nn.Dense(x.shape[-2], dtype=self.compute.dtype, name="excite")(hidden))
        return x * factor[:, None, :, None]


class _StageBlocks(nn.Module):
    """A stage: fewer frequencies and more channels, two-dimensional blocks, then the sequence over time."""

    stage: Stage
    channels: int
    block: BlockKind
    squeeze: bool
    group_divisor: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T F c"], mask: Bool[Array, "B T"], train: bool) -> Float[Array, "B T S"]:
        stride, num_blocks, expansion, reduction = self.stage
        wide = self.channels * expansion
        x = nn.Conv(wide, (1, stride), (1, stride), padding="VALID", dtype=self.compute.dtype, name="resize")(x)
        for i in range(1, num_blocks + 1):
            x = self._block(f"block{i}")(x, mask, train)
        if expansion > 1:
            conv = _ContextConv(self.channels, self.group_divisor, True, self.compute, name="shrink")
            norm = self.compute.batch_norm("shrink_norm", epsilon=_EXPANSION_NORM_EPSILON)
            x = nn.gelu(norm(conv(x, mask), mask, train=train), approximate=False)
            x = nn.Dense(self.channels, dtype=self.compute.dtype, name="shrink_pointwise")(x)
        sequence = x.reshape(*x.shape[:2], -1)
        if reduction is not None:
            sequence = TimeContext(sequence.shape[-1] // reduction, self.compute, name="time")(sequence, mask, train)
        return sequence

    def _block(self, name: str) -> nn.Module:
        if self.block == "convnext":
            return _ConvNextBlock(self.group_divisor, self.compute, name=name)
        return _ResidualBlock(self.group_divisor, self.squeeze, self.compute, name=name)


class ReDimNet(nn.Module):
    """Reshape Dimensions Network (Yakovlev et al., arXiv 2407.18223).

    Every stage reads a weighted mean of all results before it. Between stages a map of ``f`` frequencies and ``c``
    channels is a sequence of ``S = f c = F channels`` values, frequency-major, so all results have one shape and time
    keeps its resolution.

    Attributes:
      channels: of the stem.
      stages: see ``Stage``.
      block: kind of the two-dimensional blocks.
      squeeze: squeeze and excitation of the frequencies in blocks of the kind "resnet".
      group_divisor: channels of one group of their convolutions.
      final_channels: width of the result, D; None: that of the sequences, S.
      compute: types, normalisation groups, rematerialisation by stage.
    """

    channels: PositiveInt = 16
    stages: tuple[Stage, ...] = (
        Stage(1, 2, 1, 12),
        Stage(2, 2, 1, 12),
        Stage(1, 3, 1, 12),
        Stage(2, 4, 1, 8),
        Stage(1, 4, 1, 8),
        Stage(2, 4, 1, 4),
    )
    block: BlockKind = "convnext"
    squeeze: bool = False
    group_divisor: PositiveInt = 4
    final_channels: PositiveInt | None = None
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, fbank: Float[Array, "B T F"], mask: Bool[Array, "B T"], *, train: bool
    ) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"]]:
        """Encodes filterbank frames.

        Args:
          fbank: mean-normalised log-mel features; the strides of all stages together must divide F.
          mask: which frames are real.
          train: whether batch normalisation uses and collects the statistics of this batch.

        Returns:
          Frames in float32, as many as come in, and which of them are real.

        Raises:
          UserError: if the strides do not divide the number of features.
        """
        check_mask(fbank, mask)
        self._check(fbank.shape[-1])
        stage_class = nn.remat(_StageBlocks, static_argnums=(3,)) if self.compute.rematerialize else _StageBlocks
        stem = _ContextConv(self.channels, self.channels, True, self.compute, name="stem")
        x = stem(fbank[..., None].astype(self.compute.dtype), mask)
        x = nn.LayerNorm(LAYER_NORM_EPSILON, dtype=self.compute.dtype, name="stem_norm")(x)
        results = [x.reshape(*x.shape[:2], -1)]
        frequencies, channels = fbank.shape[-1], self.channels
        for i, stage in enumerate(self.stages, start=1):
            maps = self._weigh(results, i).reshape(*fbank.shape[:2], frequencies, channels)
            frequencies, channels = frequencies // stage.stride, channels * stage.stride
            blocks = stage_class(
                stage, channels, self.block, self.squeeze, self.group_divisor, self.compute, name=f"stage{i}"
            )
            results.append(blocks(maps, mask, train))
        frames = self._weigh(results, len(self.stages) + 1)
        if self.final_channels is not None:
            frames = nn.Dense(self.final_channels, dtype=self.compute.dtype, name="final")(frames)
            frames = self.compute.batch_norm("final_norm")(frames, mask, train=train)
        return frames.astype(jnp.promote_types(self.compute.dtype, jnp.float32)), mask

    def _weigh(self, results: list[Float[Array, "B T S"]], stage: int) -> Float[Array, "B T S"]:
        """The mean of all results so far, with learned weights per value."""
        if len(results) == 1:
            return results[0]
        logits = self.param(f"weights{stage}", nn.initializers.zeros, (1, len(results), results[0].shape[-1]))
        weights = jax.nn.softmax(logits[0], axis=0).astype(results[0].dtype)
        return jnp.einsum("nbts,ns->bts", jnp.stack(results), weights)

    def _check(self, num_features: int) -> None:
        total = math.prod(stage.stride for stage in self.stages)
        if num_features % total:
            raise UserError(
                f"Encoder 'redimnet': its stages divide the frequencies by {total}, but the features have "
                f"{num_features} values. Set fbank.num_mel_bins to a multiple of {total}."
            )
        strides = itertools.accumulate((stage.stride for stage in self.stages), operator.mul)
        for stage, stride in zip(self.stages, strides, strict=True):
            channels = self.channels * stride * stage.expansion
            if channels < self.group_divisor or channels % (channels // self.group_divisor):
                raise UserError(
                    f"Encoder 'redimnet': group_divisor={self.group_divisor} does not cut the {channels} channels of a "
                    "stage into equal groups; use a divisor of 'channels'."
                )
            if stage.reduction and self.channels * num_features // stage.reduction % NUM_HEADS:
                raise UserError(
                    f"Encoder 'redimnet': with reduction={stage.reduction} a block over time has "
                    f"{self.channels * num_features // stage.reduction} values, which {NUM_HEADS} heads do not divide."
                )


def _stages(*rows: tuple[int, int, int, int | None]) -> tuple[Stage, ...]:
    return tuple(map(Stage._make, rows))


_B4_STAGES = _stages((1, 4, 2, 48), (2, 4, 2, 48), (1, 6, 2, 48), (2, 6, 1, 32), (1, 8, 1, 24), (2, 4, 1, 16))

# The published sizes (github.com/IDRnD/ReDimNet, the values in WeSpeaker). B0 takes 60 mel bins, the others 72.
REDIMNETS: dict[str, dict[str, Any]] = {
    "b0": {
        "channels": 10,
        "stages": _stages((1, 2, 1, 30), (2, 3, 2, 30), (1, 3, 3, 30), (2, 4, 2, 10), (1, 3, 1, 10)),
        "block": "resnet",
        "group_divisor": 1,
    },
    "b1": {
        "channels": 12,
        "stages": _stages((1, 2, 1, None), (2, 3, 1, None), (3, 4, 1, 12), (2, 5, 1, 12), (2, 3, 1, 8)),
        "group_divisor": 8,
    },
    "b2": {},
    "b3": {
        "stages": _stages((1, 6, 4, 32), (2, 6, 2, 32), (1, 8, 2, 32), (2, 10, 2, 16), (1, 10, 1, 16), (2, 8, 1, 16)),
        "block": "resnet",
        "squeeze": True,
        "group_divisor": 1,
    },
    "b4": {"channels": 32, "stages": _B4_STAGES, "block": "resnet", "squeeze": True, "group_divisor": 1},
    "b5": {"channels": 32, "stages": _B4_STAGES, "block": "resnet", "squeeze": True, "group_divisor": 16},
    "b6": {
        "channels": 32,
        "stages": _stages((1, 4, 4, 32), (2, 6, 2, 32), (1, 6, 2, 24), (3, 8, 1, 24), (1, 8, 1, 16), (2, 8, 1, 16)),
        "block": "resnet",
        "group_divisor": 32,
    },
}
