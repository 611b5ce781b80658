"""What all networks share: zeroed padding, batch normalisation over valid positions, and how layers compute."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Bool, Float

from mqmha_jax.models.folding import Folded


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a network is computed, which every encoder takes as its field ``compute``.

    Attributes:
      dtype: type of the activations.
      batch_norm_groups: groups of a batch with normalisation statistics of their own.
      rematerialize: compute the inside of each block again for the gradient instead of keeping it.
      lanes: channels that a vector of the hardware holds; narrower arrays are folded until they fill it
        (``models/folding.py``). The result is the same.
    """

    dtype: Any = jnp.float32
    batch_norm_groups: int = 1
    rematerialize: bool = False
    lanes: int = 1


MOMENTUM = 0.9  # the share of the old running statistics that one step keeps (PyTorch calls this 0.1)
EPSILON = 1e-5  # added to the variance, as everywhere in the field


def mask_positions(
    x: Float[Array, "*shape"], mask: Bool[Array, "*leading"], positions: Folded | None = None
) -> Float[Array, "*shape"]:
    """Sets to zero what lies outside the mask, e.g. of frames, which is what a convolution's own padding looks like.

    Args:
      x: the mask's axes come first.
      mask: which positions count.
      positions: how the last but one axis is folded into the last; what fills its groups becomes zero as well.
    """
    counts = jnp.expand_dims(mask, tuple(range(mask.ndim, x.ndim)))
    if positions and not positions.is_full:
        real = positions.real(x.shape[-1] // positions.fold)
        counts = counts & jnp.expand_dims(real, tuple(range(x.ndim - 2)))
    return jnp.where(counts, x, 0)


class MaskedBatchNorm(nn.Module):
    """Batch normalisation whose statistics leave out masked positions.

    Statistics are float32 and cover the whole global batch under ``jit``, or each of several groups of its rows. As in
    PyTorch, a batch is normalised with its population variance and the running variance collects the unbiased one, so
    foreign checkpoints mean the same.

    Attributes:
      affine: learn a scale and a bias per channel.
      groups: number of groups of adjacent rows with statistics of their own, as many replicas have without
        synchronisation (running statistics collect the mean over the groups).
      dtype: type of the result.
    """

    affine: bool = True
    groups: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*rest D"],
        mask: Bool[Array, "*leading"],
        *,
        train: bool,
        positions: Folded | None = None,
    ) -> Float[Array, "*rest D"]:
        """Normalises the last axis.

        Args:
          x: activations; the mask's axes come first, then any others, then channels.
          mask: which positions count; ``[B,t]`` for frames, ``[B]`` for vectors.
          train: use the statistics of this batch and update the running ones (collection ``batch_stats``).
          positions: how the axis before the channels is folded into them; None: not.

        Returns:
          Activations of the same shape; masked positions hold finite but meaningless values.
        """
        fold = positions.fold if positions else 1
        num_channels = x.shape[-1] // fold
        statistics_dtype = jnp.promote_types(x.dtype, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (num_channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (num_channels,))
        # [groups, rows, ...]; running statistics serve all rows alike.
        grouped = x.reshape(self.groups if train else 1, -1, *x.shape[1:]).astype(statistics_dtype)
        if train:
            moments = functools.partial(_masked_moments, positions=positions)
            mean, var, count = jax.vmap(moments)(grouped, mask.reshape(*grouped.shape[:2], *mask.shape[1:]))
            if not self.is_initializing():
                unbiased = var * (count / jnp.maximum(count - 1, 1))[:, None]
                running_mean.value = MOMENTUM * running_mean.value + (1 - MOMENTUM) * mean.mean(axis=0)
                running_var.value = MOMENTUM * running_var.value + (1 - MOMENTUM) * unbiased.mean(axis=0)
        else:
            mean, var = running_mean.value[None], running_var.value[None]
        gain = lax.rsqrt(var + EPSILON)
        shift = -mean * gain
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, (num_channels,))
            bias = self.param("bias", nn.initializers.zeros, (num_channels,))
            gain, shift = gain * scale[None], shift * scale[None] + bias[None]
        gain, shift = (jnp.tile(x, (1, fold)) for x in (gain, shift))
        within = tuple(range(1, grouped.ndim - 1))
        normalised = grouped * jnp.expand_dims(gain, within) + jnp.expand_dims(shift, within)
        return normalised.reshape(x.shape).astype(self.dtype)


def _masked_moments(
    x: Float[Array, "*rest fold_D"], mask: Bool[Array, "*leading"], positions: Folded | None
) -> tuple[Float[Array, " D"], Float[Array, " D"], Float[Array, ""]]:
    """Mean and population variance per channel, and how many positions they cover."""
    fold = positions.fold if positions else 1
    positions_per_entry = x[0].size // (mask[0].size * x.shape[-1])
    if positions:
        positions_per_entry = positions_per_entry // positions.groups * positions.size
    count = jnp.maximum(mask.sum() * positions_per_entry, 1).astype(x.dtype)
    x = mask_positions(x, mask, positions)
    mean, mean_square = (y.sum(tuple(range(y.ndim - 1))).reshape(fold, -1).sum(axis=0) / count for y in (x, x * x))
    return mean, jnp.maximum(mean_square - mean * mean, 0), count
