"""ECAPA-TDNN: time-delay blocks inside which channels see each other (Desplanques et al., arXiv 2005.07143)."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float
from pydantic import PositiveInt

from mqmha_jax.errors import UserError
from mqmha_jax.models.encoders.time_delay import Edges, TimeDelayLayer
from mqmha_jax.models.masked import Compute, check_mask, masked_mean


class _Layers(NamedTuple):
    """How layers of one network are computed that keep the number of frames."""

    edges: Edges
    compute: Compute

    def apply(
        self,
        name: str,
        x: Float[Array, "B T c"],
        mask: Bool[Array, "B T"],
        train: bool,
        *,
        channels: int,
        kernel_size: int = 1,
        dilation: int = 1,
    ) -> Float[Array, "B T o"]:
        """Applies a layer as a part of the module that calls."""
        layer = TimeDelayLayer(channels, kernel_size, dilation, 1, self.compute, self.edges, name=name)
        return layer(x, mask, train)[0]


class _SqueezeExcitation(nn.Module):
    """Multiplies each channel by a factor computed from the utterance's mean of all channels."""

    bottleneck: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T c"], mask: Bool[Array, "B T"]) -> Float[Array, "B T c"]:
        mean = masked_mean(x, mask)
        hidden = nn.relu(nn.Dense(self.bottleneck, dtype=self.compute.dtype, name="squeeze")(mean))
        factor = nn.sigmoid(nn.Dense(x.shape[-1], dtype=self.compute.dtype, name="excite")(hidden))
        return x * factor[:, None]


class _SERes2Block(nn.Module):
    """Pointwise, Res2Net's hierarchy of dilated layers, pointwise, squeeze and excitation; plus the input."""

    dilation: int
    scale: int
    bottleneck: int
    layers: _Layers

    @nn.compact
    def __call__(self, x: Float[Array, "B T c"], mask: Bool[Array, "B T"], train: bool) -> Float[Array, "B T c"]:
        channels = x.shape[-1]
        inner = self.layers.apply("before", x, mask, train, channels=channels)
        parts = jnp.split(inner, self.scale, axis=-1)
        done = [parts[0]]  # unchanged; every other part sees the one before it
        for i, part in enumerate(parts[1:], start=1):
            part = part if i == 1 else part + done[-1]
            width = channels // self.scale
            part = self.layers.apply(
                f"part{i}", part, mask, train, channels=width, kernel_size=3, dilation=self.dilation
            )
            done.append(part)
        inner = self.layers.apply("after", jnp.concatenate(done, axis=-1), mask, train, channels=channels)
        return _SqueezeExcitation(self.bottleneck, self.layers.compute, name="se")(inner, mask) + x


class EcapaTdnn(nn.Module):
    """ECAPA's frame layers; with the pooling ``ccasp`` and ``model.normalize_pooled`` the network of the paper.

    The last layer joins the outputs of all blocks. Input outside the mask is zero, or the mirrored utterance, so
    padding is exact.

    Attributes:
      channels: width, 512 or 1,024 in the paper.
      final_channels: width of the last layer, D.
      dilations: dilation of each block.
      scale: parts of Res2Net's hierarchy; must divide the channels.
      bottleneck: width inside the squeeze and excitation.
      summed_inputs: a block sees the sum of all outputs before it, as in the paper; False: the last one alone, as in
        WeSpeaker and SpeechBrain.
      normalize_joined: batch normalisation behind the last layer, as in SpeechBrain.
      edges: input of the layers outside the utterance: ``"zeros"``, or its frames ``"reflected"``, as in SpeechBrain.
      compute: types, normalisation groups, rematerialisation by block.
    """

    channels: PositiveInt = 512
    final_channels: PositiveInt = 1536
    dilations: tuple[PositiveInt, ...] = (2, 3, 4)
    scale: PositiveInt = 8
    bottleneck: PositiveInt = 128
    summed_inputs: bool = True
    normalize_joined: bool = False
    edges: Edges = "zeros"
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, fbank: Float[Array, "B T F"], mask: Bool[Array, "B T"], *, train: bool
    ) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"]]:
        """Encodes filterbank frames.

        Args:
          fbank: mean-normalised log-mel features.
          mask: which frames are real.
          train: whether batch normalisation uses and collects the statistics of this batch.

        Returns:
          Frames in float32, as many as come in, and which of them are real.

        Raises:
          UserError: if the scale does not divide the channels, or there is no block.
        """
        check_mask(fbank, mask)
        if self.channels % self.scale or not self.dilations:
            raise UserError(
                f"Encoder 'ecapa': scale={self.scale} must divide channels={self.channels}, and dilations="
                f"{self.dilations} name one block at least; the paper has 8, 512 or 1024, and (2, 3, 4)."
            )
        block_class = nn.remat(_SERes2Block, static_argnums=(3,)) if self.compute.rematerialize else _SERes2Block
        x = fbank.astype(self.compute.dtype)
        layers = _Layers(self.edges, self.compute)
        total = layers.apply("layer1", x, mask, train, channels=self.channels, kernel_size=5)
        outputs = []
        for i, dilation in enumerate(self.dilations, start=2):
            block = block_class(dilation, self.scale, self.bottleneck, layers, name=f"layer{i}")
            outputs.append(block(total, mask, train))
            total = total + outputs[-1] if self.summed_inputs else outputs[-1]
        joined = nn.Dense(self.final_channels, dtype=self.compute.dtype, name="join")(jnp.concatenate(outputs, axis=-1))
        joined = nn.relu(joined)
        if self.normalize_joined:
            joined = self.compute.batch_norm("join_norm")(joined, mask, train=train)
        return joined.astype(jnp.promote_types(self.compute.dtype, jnp.float32)), mask
