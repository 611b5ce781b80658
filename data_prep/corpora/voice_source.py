"""Source-filter synthesis: pulses and noise, shaped by the resonances of the vocal tract (Fant 1960, Klatt 1980).

The sources are made sample by sample for the whole utterance at once; the filters change every 10 ms and are applied as
complex responses to overlapping windows of the sources (overlap-add), which keeps NumPy's loops long.
"""

import math

import numpy as np
import scipy.fft
from jaxtyping import Complex, Float, Float32

from data_prep.corpora.voice_plan import CONTROL_RATE_HZ, Tracks
from data_prep.corpora.voice_traits import Voice

SAMPLE_RATE_HZ = 16_000

HOP = 160
WINDOW = 2 * HOP
FFT_SIZE = 2 * WINDOW
"""20 ms of the sources, and 20 ms for the resonances to ring."""

BANDWIDTHS_HZ = (70.0, 90.0, 130.0, 220.0, 300.0)
HIGHEST_FORMANTS_HZ = (5_500.0, 6_500.0)
"""The tube also resonates above the fifth formant; without these the spectrum would end there."""

HIGHEST_BANDWIDTH_HZ = 500.0
GLOTTAL_BANDWIDTH_HZ = 120.0
SIDE_CAVITY_BANDWIDTH_HZ = 350.0

NOISE_LEVEL = 0.006
"""Brings the noise sources to the level of the pulses, so that the relative levels of the phones hold."""

PULSE_HALF_WIDTH = 6
"""A pulse between two samples is a windowed sinc of this half width."""

_HZ = np.arange(FFT_SIZE // 2 + 1) * SAMPLE_RATE_HZ / FFT_SIZE
_DELAY = np.exp(-2j * np.pi * _HZ / SAMPLE_RATE_HZ).astype(np.complex64)
_TAPER = np.hanning(WINDOW + 1)[:-1].astype(np.float32)


def render(voice: Voice, tracks: Tracks, rng: np.random.Generator) -> Float32[np.ndarray, " n"]:
    """Synthesises what the tracks hold in this voice.

    Args:
      voice: the speaker.
      tracks: the plan of the utterance, L points.
      rng: draws jitter, shimmer and the noises.

    Returns:
      ``80 L`` samples at 16 kHz, peak 1.
    """
    num_samples = len(tracks.f0_hz) * SAMPLE_RATE_HZ // CONTROL_RATE_HZ
    f0, voicing, aspiration, frication = (
        _at_samples(track, num_samples) for track in (tracks.f0_hz, tracks.voicing, tracks.aspiration, tracks.frication)
    )
    pulses, cycle = _glottal_pulses(f0, voice, rng)
    noise = NOISE_LEVEL * rng.standard_normal((2, num_samples), np.float32)
    # breath is loudest while the glottis is open
    breath = 10 ** (voice.breathiness_db / 20) * voicing * (1.0 - 0.7 * np.cos(2 * np.pi * cycle))

    sound = _spectra(pulses * voicing) * _glottal_response(voice, _at_windows(tracks.f0_hz))
    sound += _spectra(noise[0] * (aspiration + breath))
    sound *= _tract_response(voice, _at_windows(tracks.formants_hz))
    sound += _spectra(noise[1] * frication) * _frication_response(
        _at_windows(tracks.frication_hz), _at_windows(tracks.frication_width_hz)
    )
    waveform = _overlap_add(sound)[:num_samples]
    return waveform / np.max(np.abs(waveform))


def _glottal_pulses(
    f0: Float[np.ndarray, " n"], voice: Voice, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Pulses at the closures of the glottis, and the phase within the cycle in [0, 1)."""
    cycles = np.cumsum(f0) / SAMPLE_RATE_HZ
    samples = np.arange(len(f0))
    instants = np.interp(np.arange(1, int(cycles[-1]) + 1), cycles, samples)
    periods = SAMPLE_RATE_HZ / np.interp(instants, samples, f0)
    instants = instants + voice.jitter * periods * rng.standard_normal(len(instants))
    # pulses of one height would make high voices louder
    heights = np.sqrt(periods / 100) * (1 + voice.shimmer * rng.standard_normal(len(instants)))

    nearest = np.round(instants).astype(int)
    positions = nearest[:, None] + np.arange(-PULSE_HALF_WIDTH, PULSE_HALF_WIDTH + 1)[None]
    distance = positions - instants[:, None]
    shapes = np.sinc(distance) * np.cos(np.pi * distance / (2 * PULSE_HALF_WIDTH + 2)) ** 2
    inside = (positions >= 0) & (positions < len(f0))
    pulses = np.bincount(positions[inside], (heights[:, None] * shapes)[inside], minlength=len(f0))
    return pulses, cycles % 1.0


def _glottal_response(voice: Voice, f0_hz: Float[np.ndarray, " W"]) -> Complex[np.ndarray, "W bins"]:
    """Glottal formant near the pitch, a real pole for the tilt of the voice, and the radiation at the lips."""
    loss = 1 - 10 ** (-max(voice.tilt_db, 1.0) / 10)
    # solves |(1 - pole) / (1 - pole z^-1)|^2 = 1 - loss at 4 kHz, a quarter of the sample rate
    pole = (1 - math.sqrt(1 - loss**2)) / loss
    fixed = (1 - pole) / (1 - pole * _DELAY) * (1 - 0.97 * _DELAY)
    return _resonance(voice.open_resonance * f0_hz, GLOTTAL_BANDWIDTH_HZ) * fixed[None]


def _tract_response(voice: Voice, formants_hz: Float[np.ndarray, "W formants"]) -> Complex[np.ndarray, "W bins"]:
    """Product of the formants' resonances, with the notch of the side cavities."""
    notch = np.full(1, voice.side_cavity_hz)
    response = _resonance(notch, 4 * SIDE_CAVITY_BANDWIDTH_HZ) / _resonance(notch, SIDE_CAVITY_BANDWIDTH_HZ)
    for fixed_hz in HIGHEST_FORMANTS_HZ:
        response = response * _resonance(np.full(1, fixed_hz * voice.tract_ratio), HIGHEST_BANDWIDTH_HZ)
    for formant_hz, bandwidth_hz in zip(formants_hz.T, BANDWIDTHS_HZ, strict=True):
        response = response * _resonance(formant_hz, bandwidth_hz * voice.bandwidth_ratio)
    return response


def _frication_response(
    centre_hz: Float[np.ndarray, " W"], width_hz: Float[np.ndarray, " W"]
) -> Complex[np.ndarray, "W bins"]:
    """A broad bump: the short cavity before the constriction."""
    bump = np.exp(-0.5 * ((_HZ[None] - centre_hz[:, None]) / width_hz[:, None]) ** 2)
    return bump.astype(np.complex64)


def _resonance(centre_hz: Float[np.ndarray, " W"], bandwidth_hz: float) -> Complex[np.ndarray, "W bins"]:
    """Two-pole resonator with gain 1 at 0 Hz (Klatt 1980, equation 1)."""
    radius = math.exp(-math.pi * bandwidth_hz / SAMPLE_RATE_HZ)
    first = (-2 * radius * np.cos(2 * np.pi * centre_hz / SAMPLE_RATE_HZ)).astype(np.float32)[:, None]
    second = radius**2
    denominator = first * _DELAY[None]
    denominator += (1 + second * _DELAY**2)[None]
    return np.divide(1 + first + second, denominator, out=denominator)


def _spectra(signal: Float[np.ndarray, " n"]) -> Complex[np.ndarray, "W bins"]:
    """Computes spectra of tapered windows centred on 0, HOP, 2 HOP ...; the tapers add up to one everywhere."""
    num_hops = -(-len(signal) // HOP)
    padded = np.zeros((num_hops + 2) * HOP, np.float32)
    padded[HOP : HOP + len(signal)] = signal
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    return scipy.fft.rfft(windows * _TAPER[None], FFT_SIZE, axis=1)


def _overlap_add(spectra: Complex[np.ndarray, "W bins"]) -> Float32[np.ndarray, " n"]:
    windows = scipy.fft.irfft(spectra, FFT_SIZE, axis=1).astype(np.float32)
    hops = np.zeros((len(windows) + FFT_SIZE // HOP - 1, HOP), np.float32)
    for part in range(FFT_SIZE // HOP):
        hops[part : part + len(windows)] += windows[:, part * HOP : (part + 1) * HOP]
    return hops.reshape(-1)[HOP:]


def _at_samples(track: Float[np.ndarray, " L"], num_samples: int) -> Float[np.ndarray, " n"]:
    return np.interp(np.arange(num_samples) * CONTROL_RATE_HZ / SAMPLE_RATE_HZ, np.arange(len(track)), track)


def _at_windows(track: Float[np.ndarray, "L *tracks"]) -> Float[np.ndarray, "W *tracks"]:
    """The values at the centres of the windows, one more than there are hops."""
    step = HOP * CONTROL_RATE_HZ // SAMPLE_RATE_HZ
    return np.concatenate([track[::step], track[-1:]])
