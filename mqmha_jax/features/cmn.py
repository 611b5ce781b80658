"""Cepstral mean normalisation: removes what a constant channel adds to the log spectrum."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def subtract_mean(fbank: Float[Array, "B T F"], mask: Bool[Array, "B T"]) -> Float[Array, "B T F"]:
    """Subtracts each utterance's mean over its valid frames.

    Args:
      fbank: log-mel frames of any float type; shards hold float16.
      mask: True at frames of the utterance, False at padding; values in padding do not matter.

    Returns:
      Frames with mean zero over the valid frames of each utterance, float32 (float64 from float64); padding is 0.
    """
    valid = mask[:, :, None]
    frames = jnp.where(valid, fbank.astype(jnp.promote_types(fbank.dtype, jnp.float32)), 0.0)
    count = jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1)
    return jnp.where(valid, frames - jnp.sum(frames, axis=1, keepdims=True) / count, 0.0)
