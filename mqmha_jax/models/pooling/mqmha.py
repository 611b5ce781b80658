"""Multi-query multi-head attention pooling, the first half of the paper (arXiv 2110.05042)."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Bool, Float
from pydantic import PositiveFloat, PositiveInt

from mqmha_jax.errors import UserError


class MQMHA(nn.Module):
    """Weighted means and standard deviations, with weights that every (query, head) pair learns for itself.

    The frame ``x_t`` is cut into ``H`` heads of ``d = D / H`` values. For each query ``q`` and head ``h`` a scorer
    gives one score per frame (or per frame and channel); a softmax over the valid frames makes weights ``a`` of them::

        mean = sum_t a_t x_t        std = sqrt(max(sum_t a_t x_t^2 - mean^2, floor))

    A bias of the last scorer layer would add the same to every frame and cancel in the softmax, so there is none.
    The size of the result, ``S = 2 D Q``, does not depend on ``H``. The special cases have names of their own, see
    ``POOLINGS``.

    Attributes:
      heads: H; must divide D.
      queries: Q.
      layers: 1, an affine scorer; 2, affine, tanh, affine.
      bottleneck: width between the two layers.
      channel_wise: one weight per channel instead of one per head.
      use_bias: a bias in the first of two layers.
      context: the scorer sees, beside the frame, mean and standard deviation of all frames of the utterance.
      deviation: standard deviations beside the means; without, ``S = D Q``.
      variance_floor: smallest variance under the square root, which also bounds its gradient.
    """

    heads: PositiveInt = 16
    queries: PositiveInt = 4
    layers: Literal[1, 2] = 1
    bottleneck: PositiveInt = 64
    channel_wise: bool = False
    use_bias: bool = True
    context: bool = False
    deviation: bool = True
    variance_floor: PositiveFloat = 1e-7

    @nn.compact
    def __call__(self, frames: Float[Array, "B t D"], mask: Bool[Array, "B t"]) -> Float[Array, "B S"]:
        """Pools frames.

        Args:
          frames: encoder output, float32 or wider.
          mask: which frames are valid; an utterance without any gets finite but meaningless statistics.

        Returns:
          ``[B, 2 D Q]`` in the order query, head, (mean, std), channel, which is also WeSpeaker's; without deviations
          ``[B, D Q]``.

        Raises:
          UserError: if the heads do not divide D.
        """
        batch_size, num_frames, num_channels = frames.shape
        self._check_heads(num_channels)
        head_dim = num_channels // self.heads

        # The variance does not change when all frames move by the same vector. Around the utterance's own mean the
        # difference of its two moments loses no digits; the gradient needs no path through that shift.
        valid = mask[..., None]
        count = jnp.maximum(mask.sum(axis=1), 1).astype(frames.dtype)[:, None]
        frames = jnp.where(valid, frames, 0)
        centre = lax.stop_gradient(frames.sum(axis=1) / count)
        centred = jnp.where(valid, frames - centre[:, None], 0)
        frames = frames.reshape(batch_size, num_frames, self.heads, head_dim)
        centred = centred.reshape(frames.shape)

        weights = self._weights(self._with_context(frames, centred, count) if self.context else frames, mask, head_dim)
        if self.channel_wise:
            average = "btqhd,bthd->bqhd"
        else:
            weights, average = weights[..., 0], "btqh,bthd->bqhd"
        offset = jnp.einsum(average, weights, centred)
        mean = offset + centre.reshape(batch_size, 1, self.heads, head_dim)
        if not self.deviation:
            return mean.reshape(batch_size, -1)
        variance = jnp.einsum(average, weights, centred * centred) - offset * offset
        std = jnp.sqrt(jnp.maximum(variance, self.variance_floor))
        return jnp.stack([mean, std], axis=-2).reshape(batch_size, -1)

    def _with_context(
        self, frames: Float[Array, "B t H d"], centred: Float[Array, "B t H d"], count: Float[Array, "B 1"]
    ) -> Float[Array, "B t H 3*d"]:
        """Frames, and beside each the utterance's mean and standard deviation."""
        mean = frames.sum(axis=1) / count[..., None]
        std = jnp.sqrt(jnp.maximum((centred * centred).sum(axis=1) / count[..., None], self.variance_floor))
        everywhere = [jnp.broadcast_to(x[:, None], frames.shape) for x in (mean, std)]
        return jnp.concatenate([frames, *everywhere], axis=-1)

    def _weights(
        self, frames: Float[Array, "B t H i"], mask: Bool[Array, "B t"], head_dim: int
    ) -> Float[Array, "B t Q H o"]:
        """Attention weights that sum to one over the valid frames; ``o`` is 1 or ``head_dim``."""
        groups = (self.queries, self.heads)
        width = frames.shape[-1]
        num_scores = head_dim if self.channel_wise else 1
        init = nn.initializers.lecun_normal(batch_axis=(0, 1))
        if self.layers == 2:
            shape = (*groups, width, self.bottleneck)
            hidden = nn.Einsum(shape, "bthd,qhdo->btqho", self.use_bias, kernel_init=init, name="hidden")(frames)
            shape = (*groups, self.bottleneck, num_scores)
            score = nn.Einsum(shape, "btqhi,qhio->btqho", False, kernel_init=init, name="score")
            scores = score(jnp.tanh(hidden))
        else:
            shape = (*groups, width, num_scores)
            scores = nn.Einsum(shape, "bthd,qhdo->btqho", False, kernel_init=init, name="score")(frames)
        lowest = jnp.finfo(scores.dtype).min  # finite, so that an utterance without valid frames makes no NaN
        return jax.nn.softmax(jnp.where(mask[:, :, None, None, None], scores, lowest), axis=1)

    def _check_heads(self, num_channels: int) -> None:
        if num_channels % self.heads == 0:
            return
        divisors = [h for h in range(1, num_channels + 1) if num_channels % h == 0]
        nearest = sorted(sorted(divisors, key=lambda h: abs(h - self.heads))[:4])
        raise UserError(
            f"Pooling 'mqmha': heads = {self.heads} does not divide the encoder's D = {num_channels} channels. "
            f"Nearby divisors of {num_channels}: {', '.join(map(str, nearest))}."
        )
