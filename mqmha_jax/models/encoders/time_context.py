"""The context over time inside a ReDimNet: depthwise convolutions of growing reach, then self-attention."""

import jax
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float

from mqmha_jax.models.masked import Compute, mask_positions

LAYER_NORM_EPSILON = 1e-6  # the original's
_KERNEL_SIZES = (7, 19, 31, 59)
NUM_HEADS = 4


class TimeContext(nn.Module):
    """A sequence plus what a narrower sequence knows of its neighbourhood and of the whole utterance.

    Attributes:
      width: of the narrower sequence; four attention heads must divide it.
      compute: types and normalisation groups.
    """

    width: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T S"], mask: Bool[Array, "B T"], train: bool) -> Float[Array, "B T S"]:
        dtype = self.compute.dtype
        y = nn.Dense(self.width, dtype=dtype, name="narrow")(x)
        y = nn.LayerNorm(LAYER_NORM_EPSILON, dtype=dtype, name="narrow_norm")(y)
        for i, kernel_size in enumerate(_KERNEL_SIZES, start=1):
            y = _DepthwiseBlock(kernel_size, self.compute, name=f"conv{i}")(y, mask, train)
        y = _AttentionLayer(self.compute, name="attention")(y, mask)
        return x + nn.Dense(x.shape[-1], dtype=dtype, name="widen")(y)


class _DepthwiseBlock(nn.Module):
    """A depthwise convolution over time, normalisation, GELU and a pointwise layer, beside the input."""

    kernel_size: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T c"], mask: Bool[Array, "B T"], train: bool) -> Float[Array, "B T c"]:
        channels, reach = x.shape[-1], self.kernel_size // 2
        y = nn.Conv(
            channels,
            (self.kernel_size,),
            padding=((reach, reach),),
            feature_group_count=channels,
            conv_general_dilated=self.compute.convolve_time,
            dtype=self.compute.dtype,
            name="context",
        )(mask_positions(x, mask))
        y = nn.gelu(self.compute.batch_norm("norm")(y, mask, train=train), approximate=False)
        return x + nn.Dense(channels, dtype=self.compute.dtype, name="pointwise")(y)


class _AttentionLayer(nn.Module):
    """A Transformer layer that normalises after its sums; frames outside the mask are seen by nobody."""

    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T c"], mask: Bool[Array, "B T"]) -> Float[Array, "B T c"]:
        dtype, channels = self.compute.dtype, x.shape[-1]

        def project(name: str) -> Float[Array, "B T H d"]:
            y = nn.Dense(channels, dtype=dtype, name=name)(x)
            return y.reshape(*y.shape[:2], NUM_HEADS, channels // NUM_HEADS)

        attended = jax.nn.dot_product_attention(
            project("query"), project("key"), project("value"), mask=mask[:, None, None, :]
        )
        attended = attended.reshape(x.shape)
        x = self._norm("norm")(x + nn.Dense(channels, dtype=dtype, name="join")(attended))
        hidden = nn.gelu(nn.Dense(channels, dtype=dtype, name="hidden")(x), approximate=True)
        return self._norm("final_norm")(x + nn.Dense(channels, dtype=dtype, name="output")(hidden))

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(LAYER_NORM_EPSILON, dtype=self.compute.dtype, name=name)
