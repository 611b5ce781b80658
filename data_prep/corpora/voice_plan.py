"""What a synthetic voice says: a random phone sequence with its timing, as the tracks that steer the synthesiser."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import convolve1d

from data_prep.corpora.voice_phones import CONSONANTS, PAUSE, VOWELS, Phone
from data_prep.corpora.voice_traits import NUM_FORMANTS, Voice

CONTROL_RATE_HZ = 200
"""Rate of the tracks: 5 ms, short enough for the burst of a stop."""

FORMANT_GLIDE_MS = 80
"""Formants glide between targets over this time: articulators have mass (coarticulation)."""

LEVEL_GLIDE_MS = 20
PITCH_GLIDE_MS = 160

LONGEST_PAUSE_MS = 350
"""Every utterance begins with a pause; the shortest one (half a second) must hold more than that."""

ONSET_CHANCE = 0.85
CODA_CHANCE = 0.35

HIGH_FORMANTS_HZ = (3_500.0, 4_500.0)
"""The fourth and fifth formant belong to the voice, not to the phone."""

_PHONES = VOWELS + CONSONANTS


class Tracks(NamedTuple):
    """Steering of the synthesiser: L points at ``CONTROL_RATE_HZ``; levels relative to a vowel's voicing."""

    f0_hz: Float[np.ndarray, " L"]
    formants_hz: Float[np.ndarray, "L formants"]
    voicing: Float[np.ndarray, " L"]
    aspiration: Float[np.ndarray, " L"]
    frication: Float[np.ndarray, " L"]
    frication_hz: Float[np.ndarray, " L"]
    frication_width_hz: Float[np.ndarray, " L"]


class _Target(NamedTuple):
    """One target as this voice says it here."""

    phone: Phone
    formant_ratios: Float[np.ndarray, " formants"]
    num_points: int
    gain: float
    semitones: float


def plan_utterance(voice: Voice, seconds: float, rng: np.random.Generator) -> Tracks:
    """Draw phrases of (consonant)-vowel-(consonant) syllables, with pauses between, until the time is full.

    Args:
      voice: gives speaking rate, pitch and the way every phone is pronounced.
      seconds: duration of the utterance.
      rng: draws everything that differs between utterances.

    Returns:
      The tracks of the utterance, cut to its duration.
    """
    length = round(seconds * CONTROL_RATE_HZ)
    targets: list[_Target] = []
    while sum(target.num_points for target in targets) < length:
        targets += _pause(rng) + _phrase(voice, rng)

    num_points = [target.num_points for target in targets]

    def hold(values: list) -> Float[np.ndarray, "L *tracks"]:
        return np.repeat(np.array(values, float), num_points, axis=0)[:length]

    formants = hold(
        [np.array(target.phone.formants_hz + HIGH_FORMANTS_HZ) * target.formant_ratios for target in targets]
    )
    pitch = _smooth(hold([target.semitones for target in targets]), PITCH_GLIDE_MS)
    return Tracks(
        f0_hz=voice.f0_hz * 2 ** (pitch / 12),
        formants_hz=_smooth(formants, FORMANT_GLIDE_MS) * voice.tract_ratio,
        voicing=_smooth(hold([target.phone.voicing * target.gain for target in targets]), LEVEL_GLIDE_MS),
        aspiration=_smooth(hold([target.phone.aspiration * target.gain for target in targets]), LEVEL_GLIDE_MS),
        # not smoothed: the burst of a stop is two points long
        frication=hold([target.phone.frication * target.gain for target in targets]),
        frication_hz=hold([target.phone.frication_hz * voice.frication_ratio for target in targets]),
        frication_width_hz=hold([target.phone.frication_width_hz for target in targets]),
    )


def _phrase(voice: Voice, rng: np.random.Generator) -> list[_Target]:
    targets = []
    num_syllables = int(rng.integers(4, 12))
    for syllable in range(num_syllables):
        stress_db = rng.normal(0.0, 3.0)
        fall = 0.5 - syllable / num_syllables
        semitones = voice.f0_range_semitones * (0.12 * stress_db + fall + 0.25 * rng.normal())
        for phone_index in _syllable(voice, rng):
            for phone in _PHONES[phone_index]:
                milliseconds = phone.duration_ms * rng.lognormal(0, 0.2) * 1.03**stress_db / voice.rate
                num_points = max(1, round(milliseconds * CONTROL_RATE_HZ / 1000))
                ratios = voice.formant_ratios[phone_index]
                targets.append(_Target(phone, ratios, num_points, 10 ** (stress_db / 20), semitones))
    return targets


def _syllable(voice: Voice, rng: np.random.Generator) -> list[int]:
    """Indices into all phones."""
    vowel = int(rng.choice(len(VOWELS), p=voice.vowel_habits))
    onset, coda = (len(VOWELS) + rng.choice(len(CONSONANTS), size=2, p=voice.consonant_habits)).tolist()
    has_onset, has_coda = rng.random() < ONSET_CHANCE, rng.random() < CODA_CHANCE
    return [onset] * has_onset + [vowel] + [coda] * has_coda


def _pause(rng: np.random.Generator) -> list[_Target]:
    milliseconds = min(PAUSE.duration_ms * rng.lognormal(0, 0.4), LONGEST_PAUSE_MS)
    num_points = round(milliseconds * CONTROL_RATE_HZ / 1000)
    return [_Target(PAUSE, np.ones(NUM_FORMANTS), max(1, num_points), 1.0, 0.0)]


def _smooth(track: Float[np.ndarray, "L *tracks"], milliseconds: float) -> Float[np.ndarray, "L *tracks"]:
    kernel = np.hanning(round(milliseconds * CONTROL_RATE_HZ / 1000) + 2)[1:-1]
    return convolve1d(track, kernel / kernel.sum(), axis=0, mode="nearest")
