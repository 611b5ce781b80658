"""Multi-query multi-head attention pooling, the first half of the paper (arXiv 2110.05042)."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Bool, Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from mqmha_jax.errors import UserError
from mqmha_jax.models.full_precision import sum_products
from mqmha_jax.models.masked import MaskedBatchNorm, check_mask

_PER_SCORER = (0, 1)  # the axes of queries and heads, which do not count as inputs
_INIT = nn.initializers.lecun_normal(batch_axis=_PER_SCORER)


class MQMHA(nn.Module):
    """Weighted means and standard deviations; every (query, head) pair learns weights of its own.

    The frame ``x_t`` is split into ``H`` heads of ``d = D / H`` values. For each query ``q`` and head ``h`` a scorer
    gives one score per frame (or per frame and channel); a softmax over the valid frames makes them weights ``a``::

        mean = sum_t a_t x_t        std = sqrt(max(sum_t a_t x_t^2 - mean^2, floor))

    A bias of the last scorer layer would add the same to every frame and cancel in the softmax, so there is none.
    The size of the result, ``S = 2 D Q``, does not depend on ``H``. ``POOLINGS`` names the special cases.

    Attributes:
      heads: H; must divide D.
      queries: Q.
      layers: 1, an affine scorer; 2, affine, activation, affine.
      bottleneck: width between the two layers.
      channel_wise: one weight per channel instead of one per head.
      activation: between two layers: "tanh"; "relu_norm": ReLU and batch normalisation, as in WeSpeaker's
        SimAM-ResNet; "relu_norm_tanh": as in SpeechBrain.
      use_bias: a bias in the first of two layers.
      context: the scorer also sees the mean and standard deviation of all frames of the utterance.
      unbiased_context: the standard deviation that the scorer sees divides by ``n - 1``, as in WeSpeaker's ECAPA.
      deviation: standard deviations beside the means; without them ``S = D Q``.
      scorer_scale: factor of the initial values of the layer that gives the scores. At 1 the scores of normalised
        frames vary by about 1 from the start; at 0 attention starts uniform, so the pooling starts as plain statistics.
      variance_floor: smallest variance under the square root, which also bounds its gradient.
      batch_norm_groups: groups of a batch with statistics of their own, for a normalisation in the scorer.
    """

    heads: PositiveInt = 16
    queries: PositiveInt = 4
    layers: Literal[1, 2] = 1
    bottleneck: PositiveInt = 64
    channel_wise: bool = False
    activation: Literal["tanh", "relu_norm", "relu_norm_tanh"] = "tanh"
    use_bias: bool = True
    context: bool = False
    unbiased_context: bool = False
    deviation: bool = True
    scorer_scale: NonNegativeFloat = 1.0
    variance_floor: PositiveFloat = 1e-7
    batch_norm_groups: PositiveInt = 1

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B t D"], mask: Bool[Array, "B t"], *, train: bool = False
    ) -> Float[Array, "B S"]:
        """Pools frames.

        Args:
          frames: encoder output, float32 or wider.
          mask: which frames are valid; an utterance without any gets finite but meaningless statistics.
          train: whether a batch normalisation in the scorer uses and collects the statistics of this batch.

        Returns:
          ``[B, 2 D Q]`` in the order query, head, (mean, std), channel, which is also WeSpeaker's; without deviations
          ``[B, D Q]``.

        Raises:
          UserError: the mask is not ``[B, t]``, or the heads do not divide D.
        """
        check_mask(frames, mask)
        batch_size, num_frames, num_channels = frames.shape
        self._check_heads(num_channels)
        head_dim = num_channels // self.heads

        # Shifting all frames by the same vector does not change the variance. Around the utterance's own mean, the
        # difference of the two moments loses no digits; the gradient needs no path through that shift.
        valid = mask[..., None]
        count = jnp.maximum(mask.sum(axis=1), 1).astype(frames.dtype)[:, None]
        frames = jnp.where(valid, frames, 0)
        centre = lax.stop_gradient(frames.sum(axis=1) / count)
        centred = jnp.where(valid, frames - centre[:, None], 0)
        frames, centred = (
            x.reshape(batch_size, num_frames, self.heads, head_dim).swapaxes(1, 2) for x in (frames, centred)
        )

        # A shift of all frames cancels in the softmax over a single layer's scores.
        seen = centred if self.layers == 1 else frames
        if self.context:
            seen = self._with_context(frames, centred, count)
        weights = self._weights(seen, mask, head_dim, train)
        average = "bhtqd,bhtd->bhqd" if self.channel_wise else "bhtq,bhtd->bhqd"
        # Where attention sits on one frame the two moments nearly cancel, so no device may round their factors.
        offset, square = (sum_products(average, weights, x).swapaxes(1, 2) for x in (centred, centred * centred))
        mean = offset + centre.reshape(batch_size, 1, self.heads, head_dim)
        if not self.deviation:
            return mean.reshape(batch_size, -1)
        # May come out slightly negative by rounding; the floor below also bounds the derivative of the root.
        variance = square - offset * offset
        std = jnp.sqrt(jnp.maximum(variance, self.variance_floor))
        return jnp.stack([mean, std], axis=-2).reshape(batch_size, -1)

    def _with_context(
        self, frames: Float[Array, "B H t d"], centred: Float[Array, "B H t d"], count: Float[Array, "B 1"]
    ) -> Float[Array, "B H t 3*d"]:
        """Appends the utterance's mean and standard deviation to each frame."""
        mean = frames.sum(axis=2) / count[..., None]
        freedom = jnp.maximum(count - 1, 1) if self.unbiased_context else count
        std = jnp.sqrt(jnp.maximum((centred * centred).sum(axis=2) / freedom[..., None], self.variance_floor))
        everywhere = [jnp.broadcast_to(x[:, :, None], frames.shape) for x in (mean, std)]
        return jnp.concatenate([frames, *everywhere], axis=-1)

    def _weights(
        self, frames: Float[Array, "B H t i"], mask: Bool[Array, "B t"], head_dim: int, train: bool
    ) -> Float[Array, "B H t *weights"]:
        """Attention weights that sum to one over the valid frames: ``Q``, or ``Q`` times ``head_dim`` of them."""
        groups = (self.queries, self.heads)
        width = frames.shape[-1]
        num_scores = head_dim if self.channel_wise else 1
        init = nn.initializers.variance_scaling(
            self.scorer_scale**2, "fan_in", "truncated_normal", batch_axis=_PER_SCORER
        )
        if self.layers == 2:
            shape = (*groups, width, self.bottleneck)
            hidden = nn.Einsum(shape, "bhtd,qhdo->btqho", self.use_bias, kernel_init=_INIT, name="hidden")(frames)
            shape = (*groups, self.bottleneck, num_scores)
            score = nn.Einsum(shape, "btqhi,qhio->bhtqo", False, kernel_init=init, name="score")
            scores = score(self._activate(hidden, mask, train))
        elif self.channel_wise:
            shape = (*groups, width, num_scores)
            scores = nn.Einsum(shape, "bhtd,qhdo->bhtqo", False, kernel_init=init, name="score")(frames)
        else:
            scores = _Scores(self.queries, init, name="score")(frames)
        lowest = jnp.finfo(scores.dtype).min  # finite, so that an utterance without valid frames makes no NaN
        if not self.channel_wise:
            scores = scores[..., 0]
        valid = jnp.expand_dims(mask, (1, *range(3, scores.ndim)))
        return jax.nn.softmax(jnp.where(valid, scores, lowest), axis=2)

    def _activate(self, hidden: Float[Array, "B t Q H o"], mask: Bool[Array, "B t"], train: bool) -> Array:
        """Applies the activation between two layers."""
        if self.activation != "tanh":
            shape = hidden.shape
            norm = MaskedBatchNorm(groups=self.batch_norm_groups, name="hidden_norm")
            hidden = norm(nn.relu(hidden).reshape(*shape[:2], -1), mask, train=train).reshape(shape)
        return hidden if self.activation == "relu_norm" else jnp.tanh(hidden)

    def _check_heads(self, num_channels: int) -> None:
        if self.heads < 1 or self.queries < 1:
            raise UserError(f"Pooling 'mqmha': heads={self.heads} and queries={self.queries} must be at least 1.")
        if num_channels % self.heads == 0:
            return
        divisors = [h for h in range(1, num_channels + 1) if num_channels % h == 0]
        nearest = sorted(sorted(divisors, key=lambda h: abs(h - self.heads))[:4])
        raise UserError(
            f"Pooling 'mqmha': heads = {self.heads} does not divide the encoder's D = {num_channels} channels. "
            f"Nearby divisors of {num_channels}: {', '.join(map(str, nearest))}."
        )


class _Scores(nn.Module):
    """One score per frame from each (query, head) pair: an affine map without bias."""

    queries: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, frames: Float[Array, "B H t d"]) -> Float[Array, "B H t Q 1"]:
        batch_size, heads, _, width = frames.shape
        kernel = self.param("kernel", self.kernel_init, (self.queries, heads, width, 1), jnp.float32)
        # A copy of the kernel per utterance makes a batched product; otherwise XLA:CPU transposes all frames first.
        kernels = jnp.broadcast_to(kernel[..., 0].transpose(1, 2, 0)[None], (batch_size, heads, width, self.queries))
        return (frames @ kernels)[..., None]
