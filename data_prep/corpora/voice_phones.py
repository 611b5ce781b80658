"""The phone inventory of the synthetic voices.

Formants are those of an average adult man (vowels: Peterson and Barney 1952; consonant loci: Klatt 1980), rounded. A
voice scales and shifts them (``voice_traits``).
"""

from typing import NamedTuple


class Phone(NamedTuple):
    """One target of the vocal tract. Levels are amplitudes relative to a vowel's voicing."""

    symbol: str
    duration_ms: float
    formants_hz: tuple[float, float, float] = (500.0, 1_500.0, 2_500.0)
    voicing: float = 0.0
    aspiration: float = 0.0
    frication: float = 0.0
    frication_hz: float = 4_000.0
    frication_width_hz: float = 2_000.0


def _vowel(symbol: str, f1: float, f2: float, f3: float) -> tuple[Phone, ...]:
    return (Phone(symbol, 110, (f1, f2, f3), voicing=1.0),)


def _sonorant(symbol: str, f1: float, f2: float, f3: float) -> tuple[Phone, ...]:
    return (Phone(symbol, 65, (f1, f2, f3), voicing=0.45),)


def _fricative(symbol: str, level: float, hz: float, width_hz: float, f2: float, voicing: float) -> tuple[Phone, ...]:
    return (Phone(symbol, 75 if voicing else 105, (350, f2, 2_550), voicing, 0.0, level, hz, width_hz),)


def _stop(symbol: str, locus_hz: float, burst_hz: float, voiced: bool) -> tuple[Phone, ...]:
    formants = (250.0, locus_hz, 2_500.0)
    closure = Phone(symbol, 55 if voiced else 70, formants, voicing=0.12 if voiced else 0.0)
    burst = Phone(symbol, 10, formants, 0.0, 0.0, 0.7, burst_hz, 1_500)
    release = Phone(symbol, 8 if voiced else 40, formants, 0.0, 0.03 if voiced else 0.1, 0.03, burst_hz, 2_500)
    return closure, burst, release


# a phone is a sequence of targets: one, or the three of a stop
VOWELS = (
    _vowel("i", 280, 2250, 2950),
    _vowel("I", 400, 1950, 2550),
    _vowel("e", 480, 1850, 2500),
    _vowel("E", 560, 1750, 2480),
    _vowel("ae", 680, 1700, 2420),
    _vowel("a", 730, 1120, 2480),
    _vowel("O", 580, 880, 2450),
    _vowel("o", 460, 850, 2400),
    _vowel("U", 440, 1050, 2280),
    _vowel("u", 310, 880, 2260),
    _vowel("V", 620, 1220, 2420),
    _vowel("er", 480, 1320, 1700),
    _vowel("@", 500, 1450, 2450),
)
CONSONANTS = (
    _sonorant("m", 270, 1000, 2200),
    _sonorant("n", 270, 1700, 2600),
    _sonorant("ng", 280, 2200, 2700),
    _sonorant("l", 360, 1200, 2700),
    _sonorant("r", 330, 1100, 1500),
    _sonorant("w", 300, 700, 2200),
    _sonorant("j", 270, 2250, 3000),
    _fricative("s", 0.5, 6_000, 1_800, 1700, 0.0),
    _fricative("S", 0.5, 3_300, 1_300, 1900, 0.0),
    _fricative("f", 0.12, 5_000, 5_000, 1000, 0.0),
    _fricative("th", 0.10, 6_000, 4_500, 1400, 0.0),
    _fricative("z", 0.25, 6_000, 1_800, 1700, 0.3),
    _fricative("v", 0.06, 5_000, 5_000, 1000, 0.35),
    (Phone("h", 60, aspiration=0.1),),
    _stop("p", 900, 900, False),
    _stop("t", 1750, 4_500, False),
    _stop("k", 2100, 2_200, False),
    _stop("b", 900, 900, True),
    _stop("d", 1750, 4_500, True),
    _stop("g", 2100, 2_200, True),
)
PAUSE = Phone("pause", 220)
