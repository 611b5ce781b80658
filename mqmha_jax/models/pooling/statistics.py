"""Poolings without parameters: the mean over time, and the mean beside the standard deviation."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float
from pydantic import NonNegativeFloat

from mqmha_jax.models.masked import check_mask

_SMALLEST_VARIANCE = 1e-12  # bounds the gradient of the square root where all frames are equal


class TAP(nn.Module):
    """Temporal average pooling: ``S = D``."""

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B t D"], mask: Bool[Array, "B t"], *, train: bool = False
    ) -> Float[Array, "B D"]:
        """Averages over valid frames; zero for an utterance without any."""
        mean, _, _ = _moments(frames, mask)
        return mean


class TSTP(nn.Module):
    """Temporal statistics pooling: all means, then all standard deviations; ``S = 2 D`` (Snyder et al., 2018).

    Attributes:
      unbiased: divide the sum of squares by ``n - 1``, as WeSpeaker does, instead of ``n``. A single frame has a
        variance of zero either way.
      variance_offset: added to the variance before the square root; 1e-7 is WeSpeaker's.
    """

    unbiased: bool = True
    variance_offset: NonNegativeFloat = 1e-7

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B t D"], mask: Bool[Array, "B t"], *, train: bool = False
    ) -> Float[Array, "B S"]:
        """Computes means and standard deviations over valid frames, ``sqrt(variance + variance_offset)``."""
        mean, sum_of_squares, count = _moments(frames, mask)
        freedom = jnp.maximum(count - 1, 1) if self.unbiased else count
        variance = jnp.maximum(sum_of_squares / freedom + self.variance_offset, _SMALLEST_VARIANCE)
        return jnp.concatenate([mean, jnp.sqrt(variance)], axis=-1)


def _moments(
    frames: Float[Array, "B t D"], mask: Bool[Array, "B t"]
) -> tuple[Float[Array, "B D"], Float[Array, "B D"], Float[Array, "B 1"]]:
    """Returns the mean, the sum of squared deviations from it, and the number of valid frames (at least 1)."""
    check_mask(frames, mask)
    count = jnp.maximum(mask.sum(axis=1), 1).astype(frames.dtype)[:, None]
    mean = jnp.where(mask[..., None], frames, 0).sum(axis=1) / count
    deviations = jnp.where(mask[..., None], frames - mean[:, None], 0)
    return mean, (deviations * deviations).sum(axis=1), count
