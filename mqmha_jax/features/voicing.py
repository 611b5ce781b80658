"""Level and periodicity of short frames: what tells a voice from silence and from most noise.

A voice is periodic: the autocorrelation of the frame, at most 2 kHz wide and with the spectrum tilted up by 6 dB an
octave as for linear prediction, has a peak at the period of a pitch between 70 and 400 Hz (Boersma, "Accurate
short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound", 1993). A sound
that is as periodic at a higher pitch has peaks at the multiples of its short period, too. It is a bird, a dog or a
whistle; a voice has a clearly lower peak there.
"""

import math

import numpy as np
import soxr
from jaxtyping import Bool, Float, Float32, Float64

WINDOW_MS, HOP_MS = 40, 16
"""Three periods of a low voice; and less than a short syllable."""

LOWEST_PITCH_HZ, HIGHEST_PITCH_HZ = 70, 400
HIGHEST_TONE_HZ = 1_600
"""Highest pitch of a sound that is told from a voice."""

HIGHER_TONE = 0.85
"""A frame is no voice if a peak above the pitch of voices is at least this share of that at a voice's pitch. Of 0.8,
0.85, 0.9 and 0.95, 0.85 lets the least noise pass before short words are lost; docs/identify.md has the figures."""

LOWEST_HZ, HIGHEST_HZ = 60, 2_000
PRE_EMPHASIS_AT_16_KHZ = 0.97
LAGS_PER_SAMPLE = 2
"""Of the narrow signal; its samples are 0.25 ms apart."""

_TINY = 1e-20


def frame_size(sample_rate_hz: int) -> tuple[int, int]:
    """Samples of a frame, and from one frame to the next."""
    return max(1, sample_rate_hz * WINDOW_MS // 1000), max(1, sample_rate_hz * HOP_MS // 1000)


def measure_level_db(samples: Float[np.ndarray, " n"], window: int, hop: int) -> Float64[np.ndarray, " T"]:
    """Power of each frame in dB below full scale, without the constant part, which no ear hears."""
    block = math.gcd(window, hop)  # frames overlap, so sums over what they share are computed once
    blocks = samples[: len(samples) // block * block].reshape(-1, block).astype(np.float64)

    def means(sums: Float64[np.ndarray, " blocks"]) -> Float64[np.ndarray, " T"]:
        return np.lib.stride_tricks.sliding_window_view(sums, window // block)[:: hop // block].sum(axis=1) / window

    power = means(np.square(blocks).sum(axis=1)) - np.square(means(blocks.sum(axis=1)))
    return 10 * np.log10(np.maximum(power, 0.0) + _TINY)


def measure_periodicity(
    samples: Float[np.ndarray, " n"], sample_rate_hz: int, chosen: Bool[np.ndarray, " T"]
) -> Float32[np.ndarray, " chosen"]:
    """Largest normalised autocorrelation at the period of a pitch; 1 for a periodic signal, near 0 for noise.

    Args:
      samples: of T frames, one hop apart.
      sample_rate_hz: of the samples.
      chosen: the frames to measure.

    Returns:
      One value for each chosen frame; 0 for a sound of a higher pitch than a voice.
    """
    # Nothing above 2 kHz counts, so a rate of about 4 kHz holds all of it, at a quarter of the work.
    step = max(1, sample_rate_hz // (2 * HIGHEST_HZ))
    narrow = samples.astype(np.float32) if step == 1 else soxr.resample(samples.astype(np.float32), step, 1)
    rate_hz, hop = sample_rate_hz / step, frame_size(sample_rate_hz)[1] / step
    window = int(sample_rate_hz * WINDOW_MS // 1000 / step)
    narrow = np.pad(narrow, (0, window))  # rounding may ask for a sample more than there is
    first = np.round(np.flatnonzero(chosen) * hop).astype(np.int64)
    frames = np.lib.stride_tricks.sliding_window_view(narrow, window)[first]
    taper = np.hanning(window).astype(np.float32)
    fft_size = 1 << (window + int(rate_hz / LOWEST_PITCH_HZ) - 1).bit_length()
    hz = np.arange(fft_size // 2 + 1) * (rate_hz / fft_size)
    tilt = 1 - 2 * PRE_EMPHASIS_AT_16_KHZ * np.cos(2 * np.pi * hz / 16_000) + PRE_EMPHASIS_AT_16_KHZ**2
    weight = (tilt * ((hz >= LOWEST_HZ) & (hz <= HIGHEST_HZ))).astype(np.float32)
    spectrum = np.fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * taper, fft_size)
    power = (np.square(spectrum.real) + np.square(spectrum.imag)) * weight
    # A longer inverse transform gives the autocorrelation between the samples, where the peak of a period lies.
    finer = LAGS_PER_SAMPLE * fft_size
    shortest, short, longest = (
        int(LAGS_PER_SAMPLE * rate_hz / pitch_hz) for pitch_hz in (HIGHEST_TONE_HZ, HIGHEST_PITCH_HZ, LOWEST_PITCH_HZ)
    )
    lags = slice(max(1, shortest - 1), longest)
    correlation = np.fft.irfft(power.astype(np.complex64), finer)  # NumPy is twice as slow from real values
    of_taper = np.fft.irfft(np.square(np.abs(np.fft.rfft(taper, fft_size))), finer)
    normalised = correlation[:, lags] / (correlation[:, :1] + _TINY) * (of_taper[0] / of_taper[lags])
    higher, voice = (
        normalised[:, : short - lags.start + 1],
        normalised[:, short - lags.start :].max(axis=1, initial=0.0),
    )
    is_peak = (higher[:, 1:-1] >= higher[:, :-2]) & (higher[:, 1:-1] >= higher[:, 2:])
    tone = np.where(is_peak, higher[:, 1:-1], 0.0).max(axis=1, initial=0.0)
    return np.where(tone < HIGHER_TONE * voice, voice, 0.0).astype(np.float32)
