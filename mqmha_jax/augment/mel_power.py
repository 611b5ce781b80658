"""Noise and reverberation inside the training step, on the power of the mel bands instead of the waveform.

Powers of sounds that know nothing of each other add up, on average, in every band; an echo adds the power of an earlier
frame. How far that is from the truth is measured by ``benchmarks/augmentation_error.py`` and told in
``docs/augmentation.md``.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from mqmha_jax.features.fbank import FLOOR


def disturbed(batch: Mapping[str, Array]) -> Float[Array, "B T F"]:
    """The crops of a batch with the noise and the reverberation that came with them.

    Args:
      batch: ``fbank`` ``[B, C+T, F]``, un-normalised, of which the first C frames are there for their echoes; perhaps
        ``noise`` ``[B, C+T, F]`` and ``decay`` ``[B, C+1, F]``, as ``Disturbances`` draws them. C is 0 without
        ``decay``.

    Returns:
      T frames of each crop, float32 where something was added (float64 from float64); ``fbank`` itself where neither
      noise nor decay came along.
    """
    fbank = batch["fbank"]
    if "noise" in batch:
        fbank = add_noise(fbank, batch["noise"])
    if "decay" in batch:
        fbank = reverberate(fbank, batch["decay"])
    return fbank


def add_noise(fbank: Float[Array, "B T F"], noise: Float[Array, "B T F"]) -> Float[Array, "B T F"]:
    """Sum of powers.

    Args:
      fbank: natural logarithms of power.
      noise: the same of the noise, already at its level.

    Returns:
      Their sum, as a logarithm, float32 or wider.
    """
    return jnp.logaddexp(_wide(fbank), _wide(noise))


def reverberate(fbank: Float[Array, "B T F"], decay: Float[Array, "B L F"]) -> Float[Array, "B T-L+1 F"]:
    """Convolution of every band's power with its decay.

    Args:
      fbank: natural logarithms of power; the first L - 1 frames are those before the crop.
      decay: natural logarithms of the power of the room after 0 to L - 1 frames.

    Returns:
      The crop in the room, float32 or wider: frame i is the sum over k of frame ``L - 1 + i - k`` times ``decay[k]``.
    """
    context = decay.shape[1] - 1
    num_frames = fbank.shape[1] - context
    # All terms are positive, so the sum is exact to rounding for weak frames too; a Fourier transform's would not be.
    power, gains = jnp.exp(_wide(fbank)), jnp.exp(_wide(decay))
    total = jnp.zeros_like(power[:, :num_frames])
    for delay in range(context + 1):
        first = context - delay
        total += gains[:, delay, None, :] * power[:, first : first + num_frames]
    return jnp.log(jnp.maximum(total, FLOOR))


def _wide(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
