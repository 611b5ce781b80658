"""The filterbank of a padded batch of waveforms, for programs that leave Python.

It has no Fourier transform, which few runtimes and no symbolic shape allow, but a product with a matrix of cosines and
sines.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32

from mqmha_jax.config import FbankSpec
from mqmha_jax.features.fbank import WAVEFORM_SCALE, Size, fbank_of_windows, num_frames, window_and_hop


def log_mel_of_batch(
    waveform: Float[Array, "B n"], num_samples: Int32[Array, " B"], spec: FbankSpec
) -> tuple[Float[Array, "B T F"], Bool[Array, "B T"]]:
    """Log-mel filterbank frames of waveforms of different lengths, without dither.

    Args:
      waveform: float32 samples in [-1, 1] at ``spec.sample_rate_hz``; n, at least one window, may be a symbolic size.
      num_samples: length of each waveform, at most n; what follows it does not matter.
      spec: the filterbank.

    Returns:
      For each waveform the frames of ``fbank.log_mel_fbank`` without dither, and which frames it has. The others hold
      meaningless values.
    """
    window, hop = window_and_hop(spec)
    num_rows, total = waveform.shape[0], num_frames(waveform.shape[1], spec)
    end_of_last = (total - 1) * hop + window
    if spec.snip_edges:
        mask = jnp.arange(total)[None] * hop + window <= num_samples[:, None]
        signal = jax.lax.slice_in_dim(waveform, 0, end_of_last, axis=1)
    else:
        mask = jnp.arange(total)[None] * hop + (hop - hop // 2) <= num_samples[:, None]
        place = jnp.arange(end_of_last)[None] - (window // 2 - hop // 2)
        signal = jnp.take_along_axis(waveform, _reflect(place, num_samples[:, None]), axis=1, mode="clip")
    windows = _cut_windows(signal, total, window, hop).reshape(num_rows * total, window)
    fbank = fbank_of_windows(windows * WAVEFORM_SCALE, spec, _power_spectrum)
    return fbank.reshape(num_rows, total, spec.num_features), mask


def _reflect(place: Int32[Array, "1 m"], num_samples: Int32[Array, "B 1"]) -> Int32[Array, "B m"]:
    """Places before the first and behind the last sample become those of the mirrored waveform."""
    place = jnp.where(place < 0, -1 - place, place)
    return jnp.where(place < num_samples, place, 2 * num_samples - 1 - place)


def _cut_windows(signal: Float[Array, "B m"], total: Size, window: int, hop: int) -> Float[Array, "B T window"]:
    """Cuts ``total`` windows. Blocks that divide window and hop save an array of places, larger than the windows."""
    block = math.gcd(window, hop)
    size, stride = window // block, hop // block
    blocks = signal.reshape(signal.shape[0], (total - 1) * stride + size, block)
    parts = (
        jax.lax.slice_in_dim(blocks, first, first + (total - 1) * stride + 1, stride, axis=1) for first in range(size)
    )
    return jnp.concatenate(list(parts), axis=2)


def _power_spectrum(frames: Float[Array, "T window"], fft_size: int) -> Float[Array, "T bins"]:
    waves = _cosines_and_sines(frames.shape[1], fft_size)
    real, imaginary = (jnp.matmul(frames, wave, precision=jax.lax.Precision.HIGHEST) for wave in waves)
    return jnp.square(real) + jnp.square(imaginary)


def _cosines_and_sines(window: int, fft_size: int) -> tuple[Float32[np.ndarray, "window bins"], ...]:
    """The real and imaginary part of the discrete Fourier transform of ``window`` samples, as matrices."""
    phase = 2 * np.pi / fft_size * (np.arange(window)[:, None] * np.arange(fft_size // 2 + 1)[None] % fft_size)
    return np.cos(phase).astype(np.float32), np.sin(phase).astype(np.float32)
