"""SpecAugment's time and frequency masks (Park et al. 2019, arXiv 1904.08779), without time warping."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from mqmha_jax.config import SpecAugmentConfig


def spec_augment(
    fbank: Float[Array, "B T F"], mask: Bool[Array, "B T"], keys: Key[Array, " B"], config: SpecAugmentConfig
) -> Float[Array, "B T F"]:
    """Sets random stripes of each example to 0, its mean after mean normalisation.

    Widths are uniform from 0 to the configured maximum, positions uniform over the valid frames and over all bands.
    The stripes of an example depend only on its key and its length, so the order of rows in the batch does not matter.

    Args:
      fbank: mean-normalised log-mel frames.
      mask: True at valid frames, which come first; time masks fall on these.
      keys: one key per example.
      config: number and size of the masks; with both counts 0 the result is the input.

    Returns:
      The masked frames.
    """
    if config.num_time_masks == 0 and config.num_frequency_masks == 0:
        return fbank

    def augment_one(
        frames: Float[Array, "T F"], num_frames: Int[Array, ""], key: Key[Array, ""]
    ) -> Float[Array, "T F"]:
        time_key, frequency_key = jax.random.split(key)
        T, F = frames.shape
        in_time = _stripes(time_key, config.num_time_masks, config.max_time_mask_frames, jnp.arange(T), num_frames)
        in_frequency = _stripes(
            frequency_key, config.num_frequency_masks, config.max_frequency_mask_bins, jnp.arange(F), F
        )
        return jnp.where(in_time[:, None] | in_frequency[None, :], 0.0, frames)

    return jax.vmap(augment_one)(fbank, jnp.sum(mask, axis=1), keys)


def _stripes(
    key: Key[Array, ""], number: int, max_width: int, positions: Int[Array, " L"], length: int | Int[Array, ""]
) -> Bool[Array, " L"]:
    """Marks the positions that ``number`` random stripes within [0, length) cover."""
    width_key, start_key = jax.random.split(key)
    width = jnp.minimum(jax.random.randint(width_key, (number,), 0, max_width + 1), length)
    start = jax.random.randint(start_key, (number,), 0, length - width + 1)
    covered = (positions[:, None] >= start[None]) & (positions[:, None] < (start + width)[None])
    return jnp.any(covered, axis=1)
