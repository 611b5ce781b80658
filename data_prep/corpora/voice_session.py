"""What changes when a synthetic speaker speaks again on another day: mood, room, microphone, line, noise."""

from typing import NamedTuple

import numpy as np
import scipy.signal
from jaxtyping import Float, Float32

from data_prep.corpora.voice_source import SAMPLE_RATE_HZ
from data_prep.corpora.voice_traits import Voice
from mqmha_jax.augment.waveform import add_noise, reverberate, telephone_band

MOOD_F0_SPREAD = 0.05
MOOD_TILT_SPREAD_DB = 1.0
MOOD_BREATHINESS_SPREAD_DB = 2.0
MOOD_RATE_SPREAD = 0.08
MOOD_FORMANT_SPREAD = 0.01
CHANNEL_SPREAD_DB = 2.5
NOISE_SNR_DB = (15.0, 40.0)
NOISE_POLE = (0.5, 0.97)
ROOM_CHANCE = 0.3
ROOM_DECAY_S = (0.1, 0.4)
TELEPHONE_CHANCE = 0.05
LEVEL_DBFS = (-35.0, -18.0)

CHANNEL_HZ = np.array([0, 60, 120, 250, 500, 1_000, 2_000, 4_000, 6_000, 8_000])
"""Frequencies at which a microphone's response is drawn."""


class Session(NamedTuple):
    """One recording session of one speaker."""

    f0_ratio: float
    formant_ratio: float
    tilt_db: float
    breathiness_db: float
    rate_ratio: float
    channel: Float[np.ndarray, " taps"]
    """Impulse response of microphone and equipment."""
    room_response: Float[np.ndarray, " m"] | None
    telephone: bool
    noise_pole: float
    """Colour of the noise: 0 is white, towards 1 it rumbles."""
    snr_db: float
    level_dbfs: float


def draw_session(rng: np.random.Generator) -> Session:
    """Draw a session.

    Args:
      rng: a generator for this session only.

    Returns:
      Its conditions, equal for all utterances of the session.
    """
    response_db = rng.normal(0, CHANNEL_SPREAD_DB, len(CHANNEL_HZ))
    # microphones fall off at both ends
    response_db[[0, -1]] = [-40.0, -15.0]
    return Session(
        f0_ratio=rng.lognormal(0, MOOD_F0_SPREAD),
        formant_ratio=rng.lognormal(0, MOOD_FORMANT_SPREAD),
        tilt_db=rng.normal(0, MOOD_TILT_SPREAD_DB),
        breathiness_db=rng.normal(0, MOOD_BREATHINESS_SPREAD_DB),
        rate_ratio=rng.lognormal(0, MOOD_RATE_SPREAD),
        channel=scipy.signal.firwin2(255, CHANNEL_HZ, 10 ** (response_db / 20), fs=SAMPLE_RATE_HZ),
        room_response=_room(rng) if rng.random() < ROOM_CHANCE else None,
        telephone=bool(rng.random() < TELEPHONE_CHANCE),
        noise_pole=rng.uniform(*NOISE_POLE),
        snr_db=rng.uniform(*NOISE_SNR_DB),
        level_dbfs=rng.uniform(*LEVEL_DBFS),
    )


def in_mood(voice: Voice, session: Session) -> Voice:
    """The voice as it is in this session.

    Args:
      voice: the speaker.
      session: the conditions.

    Returns:
      The voice with shifted pitch, formants, effort, breath and rate.
    """
    return voice._replace(
        f0_hz=voice.f0_hz * session.f0_ratio,
        tract_ratio=voice.tract_ratio * session.formant_ratio,
        tilt_db=voice.tilt_db + session.tilt_db,
        breathiness_db=voice.breathiness_db + session.breathiness_db,
        rate=voice.rate * session.rate_ratio,
    )


def record(
    waveform: Float32[np.ndarray, " n"], session: Session, rng: np.random.Generator
) -> Float32[np.ndarray, " n"]:
    """Room, noise, microphone, telephone and level of the session.

    Args:
      waveform: the dry voice.
      session: the conditions.
      rng: draws the noise and the details of the line.

    Returns:
      The recording; its level (RMS) is that of the session, lowered where a peak would pass full scale.
    """
    if session.room_response is not None:
        waveform = reverberate(waveform, session.room_response)
    white = rng.standard_normal(len(waveform), np.float32)
    noise = scipy.signal.lfilter([1.0], [1.0, -session.noise_pole], white)
    waveform = add_noise(waveform, noise, session.snr_db, rng)
    waveform = scipy.signal.fftconvolve(waveform, session.channel, mode="same").astype(np.float32)
    if session.telephone:
        waveform = telephone_band(waveform, rng, sample_rate_hz=SAMPLE_RATE_HZ)
    gain = 10 ** (session.level_dbfs / 20) / np.sqrt(np.mean(np.square(waveform)))
    return waveform * np.float32(min(gain, 0.99 / np.max(np.abs(waveform))))


def _room(rng: np.random.Generator) -> Float[np.ndarray, " m"]:
    """Direct sound and a noise that decays by 60 dB within the drawn time."""
    decay = rng.uniform(*ROOM_DECAY_S)
    seconds = np.arange(int(decay * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.standard_normal(len(seconds)) * 10 ** (-3 * seconds / decay)
    tail *= np.sqrt(10 ** (rng.uniform(-8, 2) / 10) / np.sum(tail**2))
    return np.concatenate([[1.0], tail / max(1.0, 1.01 * np.max(np.abs(tail)))])
