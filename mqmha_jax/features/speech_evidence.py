"""How much speech a recording holds, how loud it is and how much of it is clipped: one measure for every command.

A frame is speech if it is loud (within 30 dB of the loudest frames and above -80 dBFS) and a voice sounds within 0.2 s
of it: a few frames in a row that are periodic at the pitch of a voice (``voicing.py``). A steady sound, such as mains
hum, is not speech: its level moves by less than 3 dB.

This tells speech from silence, hum, white, pink and brown noise, rain, surf and helicopters, and mostly from birds and
dogs. It does not tell a voice from a saw with an engine or a crying baby, and whispers count as noise. White noise as
loud as the speech hides about half of it.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mqmha_jax.features.voicing import HOP_MS, frame_size, measure_level_db, measure_periodicity

MIN_SPEECH_S = 0.5
"""With less speech than this on one side, a comparison of two recordings says nothing."""

FULL_SCALE = 32_766 / 32_768
"""Samples at or beyond this are clipped, or close to it; 16-bit audio ends at 32,767."""

MAX_CLIPPED_SHARE = 0.01
"""A larger share of clipped samples is worth a warning."""

BELOW_LOUDEST_DB = 30.0
QUIETEST_DBFS = -80.0
STEADY_DB = 3.0

MIN_PERIODICITY = 0.6
"""Of white noise, 1 frame of 1,000 reaches it."""

FRAMES_OF_A_VOICE = 3
"""Minimum number of periodic frames in a row; noise is periodic by chance for a frame or two."""

AROUND_A_VOICE_S = 0.2
"""Consonants before and after a vowel are speech, too."""

_FRAMES_AT_ONCE = 2_048


class SpeechEvidence(NamedTuple):
    """How much usable speech a recording holds.

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
        if round(self.speech_s, 1) < min_speech_s:
            return f"{self.speech_s:.1f} s of speech"
        return f"{math.floor(100 * self.speech_s) / 100:.2f} s of speech"  # "0.5 s" would read as enough

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
    meter = SpeechMeter(sample_rate_hz)
    meter.add(waveform)
    return meter.evidence()


class SpeechMeter:
    """``measure_speech`` of a recording that comes in blocks; keeps two numbers for each frame."""

    def __init__(self, sample_rate_hz: int) -> None:
        """Begins without samples.

        Args:
          sample_rate_hz: of the samples that follow.
        """
        self._rate_hz = sample_rate_hz
        self._window, self._hop = frame_size(sample_rate_hz)
        self._waiting = np.zeros(0, np.float32)
        self._levels: list[np.ndarray] = []
        self._periodicities: list[np.ndarray] = []
        self._num_samples = self._num_clipped = 0

    def add(self, samples: Float[np.ndarray, " n"]) -> None:
        """Takes the next samples, full scale is 1; finite."""
        self._num_samples += len(samples)
        self._num_clipped += int(np.count_nonzero(np.abs(samples) >= FULL_SCALE))
        waiting = np.concatenate([self._waiting, samples])
        start = 0
        while len(waiting) - start >= (_FRAMES_AT_ONCE - 1) * self._hop + self._window:
            self._measure(waiting[start:], _FRAMES_AT_ONCE)
            start += _FRAMES_AT_ONCE * self._hop
        self._waiting = waiting[start:].copy()

    def find_speech(self) -> Bool[np.ndarray, " T"]:
        """Which frames of ``HOP_MS`` are speech; call it when all samples are there."""
        self._finish()
        return self._find_speech(np.concatenate(self._levels))

    def evidence(self) -> SpeechEvidence:
        """The evidence of all samples; call it when all samples are there."""
        self._finish()
        level = np.concatenate(self._levels)
        speech = self._find_speech(level)
        counted = level[speech] if speech.any() else level
        duration_s = self._num_samples / self._rate_hz
        return SpeechEvidence(
            duration_s=duration_s,
            speech_s=duration_s * float(speech.mean()),
            level_dbfs=float(10 * np.log10(np.mean(10 ** (counted / 10)))),
            clipped_share=self._num_clipped / max(1, self._num_samples),
        )

    def _finish(self) -> None:
        """Measures the frames that wait for further samples; a recording shorter than a frame is filled with zeros."""
        if not self._levels and len(self._waiting) < self._window:
            self._waiting = np.pad(self._waiting, (0, self._window - len(self._waiting)))
        count = (len(self._waiting) - self._window) // self._hop + 1
        if count > 0:
            self._measure(self._waiting, count)
        self._waiting = self._waiting[:0]

    def _measure(self, samples: Float[np.ndarray, " n"], count: int) -> None:
        samples = samples[: (count - 1) * self._hop + self._window]
        level = measure_level_db(samples, self._window, self._hop)
        heard = level > QUIETEST_DBFS
        periodicity = np.zeros(count, np.float32)
        if heard.any():
            periodicity[heard] = measure_periodicity(samples, self._rate_hz, heard)
        self._levels.append(level)
        self._periodicities.append(periodicity)

    def _find_speech(self, level: Float[np.ndarray, " T"]) -> Bool[np.ndarray, " T"]:
        quiet, loud = np.percentile(level, (10, 95))
        if loud - quiet < STEADY_DB:
            return np.zeros(len(level), np.bool_)
        is_loud = (level > loud - BELOW_LOUDEST_DB) & (level > QUIETEST_DBFS)
        voiced = is_loud & (np.concatenate(self._periodicities) > MIN_PERIODICITY)
        voice = _in_runs(voiced, FRAMES_OF_A_VOICE)
        return np.asarray(is_loud & _widen(voice, round(AROUND_A_VOICE_S * 1000 / HOP_MS)))


def _in_runs(flags: Bool[np.ndarray, " T"], length: int) -> Bool[np.ndarray, " T"]:
    """The flags that stand in a run of at least ``length``."""
    padded = np.pad(flags, length - 1)
    starts_run = np.all(np.lib.stride_tricks.sliding_window_view(padded, length), axis=1)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(starts_run, length).any(axis=1))


def _widen(flags: Bool[np.ndarray, " T"], reach: int) -> Bool[np.ndarray, " T"]:
    """True within ``reach`` of a true flag."""
    return np.asarray(np.lib.stride_tricks.sliding_window_view(np.pad(flags, reach), 2 * reach + 1).any(axis=1))
