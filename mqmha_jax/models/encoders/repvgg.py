"""RepVGG: trains with three branches beside each other, infers with one 3x3 convolution (arXiv 2101.03697)."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float
from pydantic import PositiveFloat, PositiveInt

from mqmha_jax.errors import UserError
from mqmha_jax.models.maps import Conv, ConvNorm, Maps
from mqmha_jax.models.masked import EPSILON, Compute

_WIDTHS = (64, 128, 256, 512)  # of the stages, times their multipliers
_LARGEST_STEM = 64


class _RepVggBlock(nn.Module):
    """The sum of a 3x3 convolution, a 1x1 convolution and the input, each normalised; or the one that equals them."""

    channels: int
    stride: int
    folded: bool
    compute: Compute

    @nn.compact
    def __call__(self, maps: Maps, train: bool) -> Maps:
        if self.folded:
            conv = Conv(self.channels, 3, self.stride, self.compute, use_bias=True, name="folded")
            return conv(maps).apply(nn.relu)
        total = ConvNorm(self.channels, 3, self.stride, self.compute, name="dense")(maps, train=train)
        pointwise = ConvNorm(self.channels, 1, self.stride, self.compute, name="pointwise")
        total = total.plus(pointwise(maps, train=train))
        if self.stride == 1 and maps.channels == self.channels:
            norm = self.compute.batch_norm("identity")
            total = total.plus(maps.normalize(norm, train=train))
        return total.apply(nn.relu)


class RepVgg(nn.Module):
    """RepVGG over log-mel filterbanks, as WeSpeaker trains it; ``fold_repvgg`` makes it plain for inference.

    The result has ``t = ceil(T / 8)`` frames with the default strides, channel-major.

    Attributes:
      stage_sizes: blocks per stage.
      width_multipliers: of 64, 128, 256 and 512 channels, one per stage.
      strides: of the stem and of the first block of each stage, over time and frequency.
      folded: one 3x3 convolution per block in place of three branches; does not train.
      compute: types, normalisation groups, rematerialisation by block.
    """

    stage_sizes: tuple[PositiveInt, ...] = (3, 4, 23, 3)
    width_multipliers: tuple[PositiveFloat, ...] = (0.5, 0.5, 0.5, 0.5)
    strides: tuple[PositiveInt, ...] = (1, 1, 2, 2, 2)
    folded: bool = False
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
          Frames in float32 and the mask over them.

        Raises:
          UserError: if sizes, multipliers and strides differ in number, or the network is folded and shall train.
        """
        widths = self._widths()
        if train and self.folded:
            raise UserError(
                "Encoder 'repvgg': folded=True is for inference; train with folded=False and fold afterwards."
            )
        block_class = nn.remat(_RepVggBlock, static_argnums=(2,)) if self.compute.rematerialize else _RepVggBlock
        blocks = [("stem", min(_LARGEST_STEM, widths[0]), self.strides[0])]
        stages = zip(self.stage_sizes, widths, self.strides[1:], strict=True)
        for stage, (size, width, stride) in enumerate(stages, start=1):
            blocks += [(f"stage{stage}_block{i}", width, stride if i == 1 else 1) for i in range(1, size + 1)]
        maps = Maps.from_fbank(fbank, mask, channels=widths[0], compute=self.compute)
        for name, width, stride in blocks:
            maps = block_class(width, stride, self.folded, self.compute, name=name)(maps, train)
        return maps.frames().astype(jnp.promote_types(self.compute.dtype, jnp.float32)), maps.mask

    def _widths(self) -> list[int]:
        numbers = (len(self.stage_sizes), len(self.width_multipliers), len(self.strides) - 1)
        if set(numbers) != {len(_WIDTHS)}:
            raise UserError(
                f"Encoder 'repvgg': stage_sizes has {numbers[0]} entries, width_multipliers {numbers[1]} and strides "
                f"{numbers[2] + 1}; four stages and the stem need 4, 4 and 5."
            )
        return [int(width * factor) for width, factor in zip(_WIDTHS, self.width_multipliers, strict=True)]


def fold_repvgg(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Folds the branches of every block of a trained RepVGG into one 3x3 convolution with the same result.

    Args:
      variables: the encoder's ``{"params": ..., "batch_stats": ...}``.

    Returns:
      The variables of the same encoder with ``folded=True``, ``{"params": ...}``.
    """
    params, statistics = variables["params"], variables["batch_stats"]
    return {"params": {name: {"folded": _fold(params[name], statistics[name])} for name in params}}


def _fold(params: Mapping[str, Any], statistics: Mapping[str, Any]) -> dict[str, Array]:
    kernel, bias = _absorb_norm(params["dense"]["conv"]["kernel"], params["dense"]["norm"], statistics["dense"]["norm"])
    pointwise = params["pointwise"]["conv"]["kernel"]
    branches = [(pointwise, params["pointwise"]["norm"], statistics["pointwise"]["norm"])]
    if "identity" in params:
        branches.append((np.eye(pointwise.shape[-1])[None, None], params["identity"], statistics["identity"]))
    for branch in branches:
        centre, shift = _absorb_norm(*branch)
        kernel = kernel + np.pad(centre, ((1, 1), (1, 1), (0, 0), (0, 0)))  # a 1x1 kernel is the middle of a 3x3
        bias = bias + shift
    return {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}


def _absorb_norm(kernel: Any, norm: Mapping[str, Any], statistics: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """A convolution and the normalisation behind it as one convolution with a bias, in double precision."""
    scale, bias, mean, var = (
        np.asarray(x, np.float64) for x in (norm["scale"], norm["bias"], statistics["mean"], statistics["var"])
    )
    gain = scale / np.sqrt(var + EPSILON)
    return np.asarray(kernel, np.float64) * gain, bias - mean * gain
