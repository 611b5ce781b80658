"""The layer of time-delay networks."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Bool, Float

from mqmha_jax.models.masked import Compute, mask_positions

Edges = Literal["zeros", "reflected", "dropped"]


class TimeDelayLayer(nn.Module):
    """Affine over frames at a distance, ReLU, batch normalisation.

    Attributes:
      channels: width of the result.
      kernel_size: number of input frames per frame of the result.
      dilation: distance between these frames.
      stride: the layer keeps every stride-th frame.
      compute: types and normalisation groups.
      edges: input outside the utterance: ``"zeros"``; the utterance ``"reflected"`` at its first and last frame; or
        none, so that frames of the result that would need it are ``"dropped"`` from the mask.
      affine_norm: the normalisation has a scale and a bias.
    """

    channels: int
    kernel_size: int
    dilation: int
    stride: int
    compute: Compute
    edges: Edges = "zeros"
    affine_norm: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T c"], mask: Bool[Array, "B T"], train: bool
    ) -> tuple[Float[Array, "B t o"], Bool[Array, "B t"]]:
        reach = self.kernel_size // 2 * self.dilation
        if reflect := self.edges == "reflected" and reach > 0:
            x = _reflect(x, mask, reach)
        else:
            x = mask_positions(x, mask)
        x = nn.Conv(
            self.channels,
            (self.kernel_size,),
            strides=self.stride,
            kernel_dilation=self.dilation,
            padding=((0, 0),) if reflect else ((reach, reach),),
            kernel_init=nn.initializers.kaiming_normal(),
            conv_general_dilated=self.compute.convolve_time,
            dtype=self.compute.dtype,
            name="affine",
        )(x)
        if self.edges == "dropped" and reach > 0:
            mask = _without_edges(mask, reach)
        mask = mask[:, :: self.stride]
        norm = self.compute.batch_norm("norm", affine=self.affine_norm)
        return norm(nn.relu(x), mask, train=train), mask


def _without_edges(mask: Bool[Array, "B T"], reach: int) -> Bool[Array, "B T"]:
    """Keeps frames with ``reach`` real frames on both sides, or all frames of an utterance without such frames."""
    around = jnp.pad(mask, ((0, 0), (reach, reach)))
    before, behind = (lax.slice_in_dim(around, first, first + mask.shape[1], axis=1) for first in (0, 2 * reach))
    inner = mask & before & behind
    return jnp.where(inner.any(axis=1, keepdims=True), inner, mask)


def _reflect(x: Float[Array, "B T c"], mask: Bool[Array, "B T"], reach: int) -> Float[Array, "B T+2*{reach} c"]:
    """Adds ``reach`` frames on both sides of each utterance, mirrored at its first and last frame."""
    last = jnp.maximum(mask.sum(axis=1, keepdims=True) - 1, 0)
    period = jnp.maximum(2 * last, 1)  # back and forth; an utterance of one frame repeats it
    place = jnp.arange(-reach, x.shape[1] + reach)[None] % period
    return jnp.take_along_axis(x, jnp.minimum(place, period - place)[..., None] * (last > 0)[..., None], axis=1)
