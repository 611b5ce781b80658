"""What stays the same when a synthetic speaker speaks again, and how widely it varies between speakers.

The ``*_SPREAD`` constants are standard deviations over speakers and set the difficulty: traits overlap, as in life, and
no single one tells speakers apart. Sessions (``voice_session``) obscure them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data_prep.corpora.voice_phones import CONSONANTS, VOWELS

NUM_FORMANTS = 5

# two groups, as women and men: log-normal with these medians
F0_MEDIANS_HZ = (205.0, 118.0)
TRACT_MEDIANS = (1.16, 1.0)

F0_SPREAD = 0.13
TRACT_SPREAD = 0.06
HIGHER_FORMANT_SPREAD = 0.08
PHONE_FORMANT_SPREAD = 0.08
BANDWIDTH_SPREAD = 0.2
TILT_SPREAD_DB = 2.0
BREATHINESS_SPREAD_DB = 5.0
RATE_SPREAD = 0.1
FRICATION_SPREAD = 0.1
SIDE_CAVITY_SPREAD = 0.1
HABIT_SPREAD = 0.3


class Voice(NamedTuple):
    """One speaker."""

    f0_hz: float
    """Median pitch."""
    f0_range_semitones: float
    """How far accents and phrases move the pitch."""
    tract_ratio: float
    """All formants are multiplied by it: 17 cm over the length of the vocal tract."""
    formant_ratios: Float[np.ndarray, "phones formants"]
    """How the formants of each phone deviate, vowels first; the fourth and fifth deviate for all phones alike."""
    bandwidth_ratio: float
    tilt_db: float
    """Fall of the glottal spectrum in dB from 0 to 4 kHz, beyond -6 dB per octave."""
    open_resonance: float
    """Frequency of the glottal formant in units of the pitch; an open quotient sets it."""
    breathiness_db: float
    """Level of breath noise in the glottal flow."""
    jitter: float
    """Standard deviation of a period, as a fraction of it."""
    shimmer: float
    """Standard deviation of a pulse's amplitude, as a fraction of it."""
    rate: float
    """Speaking rate; 1 is about five syllables a second."""
    frication_ratio: float
    """Centre frequencies of fricatives and bursts are multiplied by it."""
    side_cavity_hz: float
    """The piriform fossae cut a notch into all voiced sounds here (Dang and Honda 1997)."""
    vowel_habits: Float[np.ndarray, " vowels"]
    consonant_habits: Float[np.ndarray, " consonants"]
    """Probabilities of the phones."""


def draw_voice(rng: np.random.Generator) -> Voice:
    """Draw a speaker.

    Args:
      rng: a generator for this speaker only.

    Returns:
      The traits.
    """
    group = int(rng.integers(2))
    num_phones = len(VOWELS) + len(CONSONANTS)
    per_phone = rng.normal(0, PHONE_FORMANT_SPREAD, (num_phones, NUM_FORMANTS)) * np.array([1, 1, 0.7, 0, 0])[None]
    per_voice = rng.normal(0, HIGHER_FORMANT_SPREAD, NUM_FORMANTS) * np.array([0.6, 0.6, 0.8, 1, 1])
    return Voice(
        f0_hz=F0_MEDIANS_HZ[group] * rng.lognormal(0, F0_SPREAD),
        f0_range_semitones=2.5 * rng.lognormal(0, 0.3),
        tract_ratio=TRACT_MEDIANS[group] * rng.lognormal(0, TRACT_SPREAD),
        formant_ratios=np.exp(per_phone + per_voice[None]),
        bandwidth_ratio=rng.lognormal(0, BANDWIDTH_SPREAD),
        tilt_db=9.0 + TILT_SPREAD_DB * rng.normal(),
        open_resonance=rng.uniform(0.9, 1.6),
        breathiness_db=-26.0 + 4.0 * (group == 0) + BREATHINESS_SPREAD_DB * rng.normal(),
        jitter=0.008 * rng.lognormal(0, 0.5),
        shimmer=0.05 * rng.lognormal(0, 0.5),
        rate=rng.lognormal(0, RATE_SPREAD),
        frication_ratio=(1.0 + 0.08 * (group == 0)) * rng.lognormal(0, FRICATION_SPREAD),
        side_cavity_hz=4_600 * rng.lognormal(0, SIDE_CAVITY_SPREAD),
        vowel_habits=_habits(len(VOWELS), rng),
        consonant_habits=_habits(len(CONSONANTS), rng),
    )


def _habits(num: int, rng: np.random.Generator) -> Float[np.ndarray, " phones"]:
    weights = rng.lognormal(0, HABIT_SPREAD, num)
    return weights / weights.sum()
