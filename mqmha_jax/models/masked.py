"""Shared by all networks: zeroed padding, batch normalisation over valid positions, and how layers compute."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Bool, Float

from mqmha_jax.errors import UserError

MOMENTUM = 0.9  # the share of the old running statistics that one step keeps (PyTorch calls this 0.1)
EPSILON = 1e-5  # added to the variance, as everywhere in the field


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a network computes. Every encoder takes it as its field ``compute``.

    Attributes:
      dtype: type of the activations.
      batch_norm_groups: groups of a batch with normalisation statistics of their own.
      rematerialize: compute the inside of each block again for the gradient instead of keeping it.
      lanes: channels that a vector of the hardware holds; narrower arrays are folded until they fill it
        (``models/folding.py``). The result is the same.
      convolve_time: computes convolutions over time; None: ``lax.conv_general_dilated`` (``trusted_convolutions.py``,
        ``time_kernel_gradients.py``).
      convolve_maps: the same over time and frequency (``kernel_gradients.py``).
    """

    dtype: Any = jnp.float32
    batch_norm_groups: int = 1
    rematerialize: bool = False
    lanes: int = 1
    convolve_time: Callable[..., Array] | None = None
    convolve_maps: Callable[..., Array] | None = None

    def batch_norm(self, name: str, *, affine: bool = True, epsilon: float = EPSILON) -> "MaskedBatchNorm":
        """Makes a batch normalisation that computes this way; the fields are those of ``MaskedBatchNorm``."""
        return MaskedBatchNorm(affine, self.batch_norm_groups, epsilon, self.dtype, name=name)


class Moments(NamedTuple):
    """Mean and population variance per channel, and how many positions they cover (at least 1)."""

    mean: Float[Array, " D"]
    variance: Float[Array, " D"]
    num_positions: Float[Array, ""]


def check_mask(frames: Any, mask: Any) -> None:
    """Refuses a mask that does not belong to the frames; one that broadcasts would pool other frames, silently.

    Args:
      frames: ``[B,T,...]``.
      mask: should be ``[B,T]``, True for frames that are real.

    Raises:
      UserError: another shape or type.
    """
    if frames.ndim < 3 or mask.shape != frames.shape[:2] or mask.dtype != bool:
        raise UserError(
            f"Frames of shape {frames.shape} come with a mask of shape {mask.shape} and type {mask.dtype}. Give frames "
            "[B,T,F] and a mask [B,T] of type bool, True for each real frame."
        )


def mask_positions(x: Float[Array, "*shape"], mask: Bool[Array, "*leading"]) -> Float[Array, "*shape"]:
    """Sets positions outside the mask to zero, such as padded frames, because a convolution's own padding is zero.

    Args:
      x: the axes of the mask come first.
      mask: which positions count.
    """
    return jnp.where(jnp.expand_dims(mask, tuple(range(mask.ndim, x.ndim))), x, 0)


def masked_moments(x: Float[Array, "*rest D"], mask: Bool[Array, "*leading"]) -> Moments:
    """Computes the moments of each channel over all positions inside the mask."""
    positions_per_entry = x[0].size // (mask[0].size * x.shape[-1])
    count = jnp.maximum(mask.sum() * positions_per_entry, 1).astype(x.dtype)
    x = mask_positions(x, mask)
    mean, mean_square = (y.sum(tuple(range(y.ndim - 1))) / count for y in (x, x * x))
    return Moments(mean, jnp.maximum(mean_square - mean * mean, 0), count)


def masked_mean(x: Float[Array, "B T ..."], mask: Bool[Array, "B T"]) -> Float[Array, "B ..."]:
    """Averages over the frames that the mask marks, in float32 or wider; zero if it marks none."""
    total = mask_positions(x, mask).sum(axis=1, dtype=jnp.promote_types(x.dtype, jnp.float32))
    count = jnp.maximum(mask.sum(axis=1), 1).astype(total.dtype)
    return total / jnp.expand_dims(count, tuple(range(1, total.ndim)))


class MaskedBatchNorm(nn.Module):
    """Batch normalisation whose statistics leave out masked positions.

    Statistics are float32 and cover the whole global batch under ``jit``, or each of several groups of its rows. As in
    PyTorch, a batch is normalised with its population variance and the running variance collects the unbiased one, so
    foreign checkpoints mean the same.

    Attributes:
      affine: learn a scale and a bias per channel.
      groups: number of groups of adjacent rows with statistics of their own, as replicas without synchronisation have
        (running statistics collect the mean over the groups).
      epsilon: added to the variance.
      dtype: type of the result.
    """

    affine: bool = True
    groups: int = 1
    epsilon: float = EPSILON
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*rest D"],
        mask: Bool[Array, "*leading"],
        *,
        train: bool,
        moments: Callable[[Array, Array], Moments] = masked_moments,
        repeats: int = 1,
    ) -> Float[Array, "*rest D"]:
        """Normalises the last axis.

        Args:
          x: activations; the mask's axes come first, then any others, then channels.
          mask: which positions count; ``[B,t]`` for frames, ``[B]`` for vectors.
          train: use the statistics of this batch and update the running ones (collection ``batch_stats``).
          moments: of the channels of ``x`` and ``mask``, both with the first axis cut into groups.
          repeats: how many times the channels occur one after another along the last axis.

        Returns:
          Activations of the same shape; masked positions hold finite but meaningless values.
        """
        num_channels = x.shape[-1] // repeats
        statistics_dtype = jnp.promote_types(x.dtype, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (num_channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (num_channels,))
        # [groups, rows, ...]; running statistics serve all rows alike.
        grouped = x.reshape(self.groups if train else 1, -1, *x.shape[1:]).astype(statistics_dtype)
        if train:
            mean, var, count = jax.vmap(moments)(grouped, mask.reshape(*grouped.shape[:2], *mask.shape[1:]))
            if not self.is_initializing():
                # PyTorch normalises with the biased variance and collects the unbiased one; imported statistics assume
                # both.
                unbiased = var * (count / jnp.maximum(count - 1, 1))[:, None]
                running_mean.value = MOMENTUM * running_mean.value + (1 - MOMENTUM) * mean.mean(axis=0)
                running_var.value = MOMENTUM * running_var.value + (1 - MOMENTUM) * unbiased.mean(axis=0)
        else:
            mean, var = running_mean.value[None], running_var.value[None]
        # One multiplication and one addition per activation, in float32, before the result is rounded to the compute
        # type.
        gain = lax.rsqrt(var + self.epsilon)
        shift = -mean * gain
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, (num_channels,))
            bias = self.param("bias", nn.initializers.zeros, (num_channels,))
            gain, shift = gain * scale[None], shift * scale[None] + bias[None]
        gain, shift = (jnp.tile(x, (1, repeats)) for x in (gain, shift))
        within = tuple(range(1, grouped.ndim - 1))
        normalised = grouped * jnp.expand_dims(gain, within) + jnp.expand_dims(shift, within)
        return normalised.reshape(x.shape).astype(self.dtype)
