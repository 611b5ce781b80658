"""Noise and reverberation inside the training step, on the power of the mel bands instead of the waveform.

Powers of unrelated sounds add up, on average, in every band; an echo adds the power of an earlier frame.
``benchmarks/augmentation_error.py`` measures the error of this approximation, ``docs/augmentation.md`` reports it.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from mqmha_jax.features.fbank import FLOOR


def apply_noise_and_rooms(batch: Mapping[str, Array]) -> Float[Array, "B T F"]:
    """Adds to the crops of a batch the noise and the reverberation that the batch holds.

    Args:
      batch: ``fbank`` ``[B, C+T, F]``, un-normalised; its first C frames only echo into the crop. Optional: ``noise``
        ``[B, C+T, F]`` and ``decay`` ``[B, C+1, F]``, as ``NoiseAndRooms`` draws them. C is 0 without ``decay``.

    Returns:
      T frames of each crop, float32 (float64 from float64) if anything was added; ``fbank`` itself if the batch holds
      neither noise nor decay.
    """
    fbank = batch["fbank"]
    if "noise" in batch:
        fbank = add_noise(fbank, batch["noise"])
    if "decay" in batch:
        fbank = reverberate(fbank, batch["decay"])
    return fbank


def add_noise(fbank: Float[Array, "B T F"], noise: Float[Array, "B T F"]) -> Float[Array, "B T F"]:
    """Adds powers.

    Args:
      fbank: natural logarithms of the speech's power.
      noise: natural logarithms of the noise's power, already at its level.

    Returns:
      The logarithm of the sum, float32 or wider.
    """
    return jnp.logaddexp(_widen(fbank), _widen(noise))


def reverberate(fbank: Float[Array, "B T F"], decay: Float[Array, "B L F"]) -> Float[Array, "B T-L+1 F"]:
    """Convolves every band's power with its decay.

    Args:
      fbank: natural logarithms of power; the first L - 1 frames come before the crop.
      decay: natural logarithms of the power of the room after 0 to L - 1 frames.

    Returns:
      The crop in the room, float32 or wider: frame i is the sum over k of frame ``L - 1 + i - k`` times ``decay[k]``.
    """
    context = decay.shape[1] - 1
    num_frames = fbank.shape[1] - context
    # All terms are positive, so the sum is exact to rounding in weak frames too. A Fourier transform is not.
    power, gains = jnp.exp(_widen(fbank)), jnp.exp(_widen(decay))
    total = jnp.zeros_like(power[:, :num_frames])
    for delay in range(context + 1):
        first = context - delay
        total += gains[:, delay, None, :] * power[:, first : first + num_frames]
    return jnp.log(jnp.maximum(total, FLOOR))


def _widen(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
