"""Res2Net's block over maps, where parts of the channels see each other in turn, and attentive fusion of two maps."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from mqmha_jax.models.maps import ConvNorm, Maps, join_channels
from mqmha_jax.models.masked import Compute

_HIGHEST = 20.0  # this family clips its activations, so that half precision cannot overflow
_FUSION_REDUCTION = 4


def clipped_relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``min(max(x, 0), 20)``."""
    return jnp.clip(x, 0, _HIGHEST)


class AttentiveFusion(nn.Module):
    """Two maps of equal shape as one: each position and channel is weighed by both (Chen et al., arXiv 2305.12838).

    With ``a = tanh(attention(one, other))``, the result is ``(1 + a) one + (1 - a) other``.

    Attributes:
      compute: types and normalisation groups.
    """

    compute: Compute

    @nn.compact
    def __call__(self, one: Maps, other: Maps, train: bool) -> Maps:
        conv = partial(ConvNorm, kernel_size=1, stride=1, compute=self.compute, use_bias=True)
        other = other.fold_like(one)
        hidden = conv(max(1, one.channels // _FUSION_REDUCTION), name="squeeze")(
            join_channels([one, other]), train=train
        )
        attention = conv(one.channels, name="attend")(hidden.apply(nn.silu), train=train).fold_like(one)
        weight = jnp.tanh(attention.values)
        return one._replace(values=one.values * (1 + weight) + other.values * (1 - weight))


class Res2Block(nn.Module):
    """1x1, a hierarchy of 3x3 convolutions over parts of the channels, 1x1, with a shortcut around them.

    The first part is convolved alone, every other one together with the result of the part before it (Gao et al.,
    Res2Net, arXiv 1904.01169).

    Attributes:
      width: channels of one part.
      scale: number of parts.
      channels_out: width of the result.
      stride: of the first and of the shortcut's convolution.
      attend: a part meets the result before it by ``AttentiveFusion``, not by a sum.
      convolve_last: convolve the last part too; Res2Net passes it on as it is.
      compute: types, normalisation groups.
    """

    width: int
    scale: int
    channels_out: int
    stride: int
    attend: bool
    convolve_last: bool
    compute: Compute

    @nn.compact
    def __call__(self, maps: Maps, train: bool) -> Maps:
        conv = partial(ConvNorm, compute=self.compute)
        inner = conv(self.width * self.scale, 1, self.stride, name="narrow")(maps, train=train).apply(clipped_relu)
        done: list[Maps] = []
        for i, part in enumerate(inner.split_channels(self.scale), start=1):
            if i == self.scale and not self.convolve_last:
                done.append(part)
                break
            if done and self.attend:
                part = AttentiveFusion(self.compute, name=f"fusion{i}")(done[-1], part, train)
            elif done:
                part = part.plus(done[-1])
            done.append(conv(self.width, 3, 1, name=f"part{i}")(part, train=train).apply(clipped_relu))
        inner = conv(self.channels_out, 1, 1, name="widen")(join_channels(done), train=train)
        if self.stride > 1 or maps.channels != self.channels_out:
            maps = conv(self.channels_out, 1, self.stride, name="shortcut")(maps, train=train)
        return inner.plus(maps).apply(clipped_relu)
