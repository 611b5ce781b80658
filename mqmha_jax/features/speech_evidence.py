"""How much speech a recording holds, how loud it is and how much of it is clipped: one measure for every command.

A frame is speech if it is loud (within 30 dB of the loudest frames and above -80 dBFS) and a voice sounds within 0.2 s
of it. A voice is periodic: the autocorrelation of the frame, at most 2 kHz wide and with the spectrum tilted up by 6 dB
an octave as for linear prediction, has a peak at the period of a pitch between 70 and 400 Hz (Boersma, "Accurate
short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound", 1993).
A steady sound, such as mains hum, is not speech: its level moves by less than 3 dB.

This tells speech from silence, hum, white, pink and brown noise, rain, surf and engines. It does not tell a voice from
a rooster, and whispers count as noise. White noise as loud as the speech hides about half of it.
"""

import math
from typing import NamedTuple

import numpy as np
import soxr
from jaxtyping import Bool, Float, Float32, Float64

MIN_SPEECH_S = 0.5
"""With less speech than this on one side, a comparison of two recordings says nothing."""

FULL_SCALE = 32_766 / 32_768
"""Samples at or beyond this are clipped, or close to it; 16-bit audio ends at 32,767."""

MAX_CLIPPED_SHARE = 0.01
"""A larger share of clipped samples is worth a warning."""

WINDOW_MS, HOP_MS = 40, 16
"""Three periods of a low voice; and less than a short syllable."""

BELOW_LOUDEST_DB = 30.0
QUIETEST_DBFS = -80.0
STEADY_DB = 3.0

LOWEST_PITCH_HZ, HIGHEST_PITCH_HZ = 70, 400
LOWEST_HZ, HIGHEST_HZ = 60, 2_000
PRE_EMPHASIS_AT_16_KHZ = 0.97
MIN_PERIODICITY = 0.6
"""Of white noise, 1 frame of 1,000 reaches it."""

FRAMES_OF_A_VOICE = 3
"""Minimum number of periodic frames in a row; noise is periodic by chance for a frame or two."""

AROUND_A_VOICE_S = 0.2
"""Consonants before and after a vowel are speech, too."""

LAGS_PER_SAMPLE = 2
"""Of the narrow signal; its samples are 0.25 ms apart."""

_FRAMES_AT_ONCE = 2_048
_TINY = 1e-20


class SpeechEvidence(NamedTuple):
    """What a recording offers to a comparison of speakers.

    Attributes:
      duration_s: length of the recording.
      speech_s: of this, speech.
      level_dbfs: mean power of the speech, of everything where there is no speech; a sine of full scale has -3 dB,
        digital silence -200 dB.
      clipped_share: share of the samples at full scale.
    """

    duration_s: float
    speech_s: float
    level_dbfs: float
    clipped_share: float

    def shortfall(self, min_speech_s: float = MIN_SPEECH_S) -> str | None:
        """Why the recording cannot tell who speaks, e.g. "0.4 s of speech"; None if it can."""
        if self.speech_s >= min_speech_s:
            return None
        if self.level_dbfs < QUIETEST_DBFS:
            return f"no speech, {self.duration_s:.1f} s of silence"
        if self.speech_s == 0:
            return f"no speech in {self.duration_s:.1f} s of sound"
        return f"{self.speech_s:.1f} s of speech"

    def concerns(self, min_speech_s: float = MIN_SPEECH_S) -> list[str]:
        """What makes an embedding of the recording doubtful: too little speech, clipping; mostly nothing."""
        shortfall = self.shortfall(min_speech_s)
        clipped = [f"{self.clipped_share:.0%} of the samples are clipped"] * (self.clipped_share > MAX_CLIPPED_SHARE)
        return [shortfall, *clipped] if shortfall else clipped


def measure_speech(waveform: Float[np.ndarray, " n"], sample_rate_hz: int) -> SpeechEvidence:
    """Measures speech, level and clipping of a recording.

    Args:
      waveform: samples, full scale is 1; finite.
      sample_rate_hz: of the samples.

    Returns:
      The evidence; memory beyond the waveform is bounded.
    """
    window, hop = (max(1, sample_rate_hz * ms // 1000) for ms in (WINDOW_MS, HOP_MS))
    samples = waveform if len(waveform) >= window else np.pad(waveform, (0, window - len(waveform)))
    starts = range(0, (len(samples) - window) // hop + 1, _FRAMES_AT_ONCE)
    chunks = [samples[start * hop : (start + _FRAMES_AT_ONCE - 1) * hop + window] for start in starts]
    level = np.concatenate([_level_db(chunk, window, hop) for chunk in chunks])
    quiet, loud = np.percentile(level, (10, 95))
    is_loud = (level > loud - BELOW_LOUDEST_DB) & (level > QUIETEST_DBFS)
    speech = np.zeros(len(level), np.bool_)
    if loud - quiet >= STEADY_DB:
        periodicity = np.zeros(len(level), np.float32)
        for start, chunk in zip(starts, chunks, strict=True):
            chosen = is_loud[start : start + _FRAMES_AT_ONCE]
            periodicity[start : start + len(chosen)][chosen] = _periodicity(chunk, sample_rate_hz, chosen)
        voice = _in_runs(periodicity > MIN_PERIODICITY, FRAMES_OF_A_VOICE)
        speech = is_loud & _widen(voice, round(AROUND_A_VOICE_S * 1000 / HOP_MS))
    counted = level[speech] if speech.any() else level
    duration_s = len(waveform) / sample_rate_hz
    return SpeechEvidence(
        duration_s=duration_s,
        speech_s=duration_s * float(speech.mean()),
        level_dbfs=float(10 * np.log10(np.mean(10 ** (counted / 10)))),
        clipped_share=float(np.mean(np.abs(waveform) >= FULL_SCALE)),
    )


def _level_db(samples: Float[np.ndarray, " n"], window: int, hop: int) -> Float64[np.ndarray, " T"]:
    """Power of each frame in dB below full scale, without the constant part, which no ear hears."""
    block = math.gcd(window, hop)  # frames overlap, so sums over what they share are computed once
    blocks = samples[: len(samples) // block * block].reshape(-1, block).astype(np.float64)

    def means(sums: Float64[np.ndarray, " blocks"]) -> Float64[np.ndarray, " T"]:
        return np.lib.stride_tricks.sliding_window_view(sums, window // block)[:: hop // block].sum(axis=1) / window

    power = means(np.square(blocks).sum(axis=1)) - np.square(means(blocks.sum(axis=1)))
    return 10 * np.log10(np.maximum(power, 0.0) + _TINY)


def _periodicity(
    samples: Float[np.ndarray, " n"], sample_rate_hz: int, chosen: Bool[np.ndarray, " T"]
) -> Float32[np.ndarray, " loud"]:
    """Largest normalised autocorrelation at the period of a pitch; 1 for a periodic signal, near 0 for noise.

    Args:
      samples: of T frames, one hop apart.
      sample_rate_hz: of the samples.
      chosen: the frames to measure.
    """
    # Nothing above 2 kHz counts, so a rate of about 4 kHz holds all of it, at a quarter of the work.
    step = max(1, sample_rate_hz // (2 * HIGHEST_HZ))
    narrow = samples.astype(np.float32) if step == 1 else soxr.resample(samples.astype(np.float32), step, 1)
    rate_hz, hop = sample_rate_hz / step, max(1, sample_rate_hz * HOP_MS // 1000) / step
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
    lags = slice(*(int(LAGS_PER_SAMPLE * rate_hz / pitch_hz) for pitch_hz in (HIGHEST_PITCH_HZ, LOWEST_PITCH_HZ)))
    correlation = np.fft.irfft(power.astype(np.complex64), finer)  # NumPy is twice as slow from real values
    of_taper = np.fft.irfft(np.square(np.abs(np.fft.rfft(taper, fft_size))), finer)
    normalised = correlation[:, lags] / (correlation[:, :1] + _TINY) * (of_taper[0] / of_taper[lags])
    return normalised.max(axis=1, initial=0.0).astype(np.float32)


def _in_runs(flags: Bool[np.ndarray, " T"], length: int) -> Bool[np.ndarray, " T"]:
    """The flags that stand in a run of at least ``length``."""
    padded = np.pad(flags, length - 1)
    starts_run = np.all(np.lib.stride_tricks.sliding_window_view(padded, length), axis=1)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(starts_run, length).any(axis=1))


def _widen(flags: Bool[np.ndarray, " T"], reach: int) -> Bool[np.ndarray, " T"]:
    """True within ``reach`` of a true flag."""
    return np.asarray(np.lib.stride_tricks.sliding_window_view(np.pad(flags, reach), 2 * reach + 1).any(axis=1))
