"""Cepstral mean normalisation: what a constant channel adds to the log spectrum is taken away."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def subtract_mean(fbank: Float[Array, "B T F"], mask: Bool[Array, "B T"]) -> Float[Array, "B T F"]:
    """Subtract each utterance's mean over its valid frames.

    Args:
      fbank: log-mel frames of any float type; shards hold float16.
      mask: True where a frame is speech of the utterance, False where it is padding (whose values do not matter).

    Returns:
      Frames with mean zero over the valid frames of each utterance, float32 or, if the input is wider, float64; padded
      frames are 0.
    """
    valid = mask[:, :, None]
    frames = jnp.where(valid, fbank.astype(jnp.promote_types(fbank.dtype, jnp.float32)), 0.0)
    count = jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1)
    return jnp.where(valid, frames - jnp.sum(frames, axis=1, keepdims=True) / count, 0.0)
