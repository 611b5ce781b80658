"""What all networks share: zeroed padding, batch normalisation over valid positions, and how layers compute."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Bool, Float


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a network is computed, which every encoder takes as its field ``compute``.

    Attributes:
      dtype: type of the activations.
      batch_norm_groups: groups of a batch with normalisation statistics of their own.
      rematerialize: compute the inside of each block again for the gradient instead of keeping it.
    """

    dtype: Any = jnp.float32
    batch_norm_groups: int = 1
    rematerialize: bool = False


MOMENTUM = 0.9  # the share of the old running statistics that one step keeps (PyTorch calls this 0.1)
EPSILON = 1e-5  # added to the variance, as everywhere in the field


def mask_frames(x: Float[Array, "B t *rest"], mask: Bool[Array, "B t"]) -> Float[Array, "B t *rest"]:
    """Sets the frames outside the mask to zero, which is what a convolution's own padding looks like."""
    return jnp.where(_align(mask, x), x, 0)


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
        self, x: Float[Array, "*rest D"], mask: Bool[Array, "*leading"], *, train: bool
    ) -> Float[Array, "*rest D"]:
        """Normalises the last axis.

        Args:
          x: activations; the mask's axes come first, then any others, then channels.
          mask: which positions count; ``[B,t]`` for frames, ``[B]`` for vectors.
          train: use the statistics of this batch and update the running ones (collection ``batch_stats``).

        Returns:
          Activations of the same shape; masked positions hold finite but meaningless values.
        """
        num_channels = x.shape[-1]
        statistics_dtype = jnp.promote_types(x.dtype, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (num_channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (num_channels,))
        # [groups, rows, ...]; running statistics serve all rows alike.
        grouped = x.reshape(self.groups if train else 1, -1, *x.shape[1:]).astype(statistics_dtype)
        if train:
            mean, var, count = jax.vmap(_masked_moments)(grouped, mask.reshape(*grouped.shape[:2], *mask.shape[1:]))
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
        within = tuple(range(1, grouped.ndim - 1))
        normalised = grouped * jnp.expand_dims(gain, within) + jnp.expand_dims(shift, within)
        return normalised.reshape(x.shape).astype(self.dtype)


def _masked_moments(
    x: Float[Array, "*rest D"], mask: Bool[Array, "*leading"]
) -> tuple[Float[Array, " D"], Float[Array, " D"], Float[Array, ""]]:
    """Mean and population variance per channel, and how many positions they cover."""
    positions_per_entry = x[0].size // (mask[0].size * x.shape[-1])
    count = jnp.maximum(mask.sum() * positions_per_entry, 1).astype(x.dtype)
    axes = tuple(range(x.ndim - 1))
    x = jnp.where(_align(mask, x), x, 0)
    mean = x.sum(axes) / count
    return mean, jnp.maximum((x * x).sum(axes) / count - mean * mean, 0), count


def _align(mask: Bool[Array, "*leading"], x: Float[Array, "*rest"]) -> Bool[Array, "*rest_or_one"]:
    return jnp.expand_dims(mask, tuple(range(mask.ndim, x.ndim)))
