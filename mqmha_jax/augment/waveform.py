"""Waveform augmentation for the versions of a corpus: speed, noise, babble, reverberation, telephone.

Plain NumPy, offline. All random choices come from the generator that is passed in. Nothing clips to [-1, 1], because
float features follow.
"""

from collections.abc import Callable, Sequence

import numpy as np
import soxr
from jaxtyping import Float, Float32

from mqmha_jax.errors import UserError

TELEPHONE_RATE_HZ = 8_000
TELEPHONE_LOW_HZ = (200.0, 400.0)
TELEPHONE_HIGH_HZ = (3_100.0, 3_700.0)
"""Ranges of the band edges: ITU-T G.712 has 300 and 3,400 Hz, and handsets and cellular codecs lie around them."""

MU = 255.0


def change_speed(waveform: Float[np.ndarray, " n"], factor: float) -> Float32[np.ndarray, " m"]:
    """Plays speech faster or slower. The pitch changes too, as with ``sox speed``, so the voice is another speaker's.

    Args:
      waveform: samples.
      factor: greater than 0; 1.1 is 10 % faster.

    Returns:
      About ``n / factor`` samples.

    Raises:
      UserError: the factor is not positive.
    """
    if not factor > 0:
        raise UserError(f"The speed factor is {factor}; it must be greater than 0 (usual: 0.9 and 1.1).")
    return soxr.resample(waveform.astype(np.float32), factor, 1.0)


def add_noise(
    waveform: Float[np.ndarray, " n"], noise: Float[np.ndarray, " m"], snr_db: float, rng: np.random.Generator
) -> Float32[np.ndarray, " n"]:
    """Adds one noise over the whole speech, at a given ratio of mean powers.

    Args:
      waveform: samples of the speech.
      noise: samples at the same rate; cut to n at a random place, or repeated from a random place.
      snr_db: power of the speech over power of the added noise.
      rng: draws the place.

    Returns:
      The sum. If either is digital silence, no ratio exists, and the speech is returned unchanged.

    Raises:
      UserError: the noise holds no samples.
    """
    return add_noises(waveform, [(noise, snr_db)], rng)


def add_noises(
    waveform: Float[np.ndarray, " n"],
    noises: Sequence[tuple[Float[np.ndarray, " _"], float]],
    rng: np.random.Generator,
) -> Float32[np.ndarray, " n"]:
    """Adds several noises over the whole speech, such as the voices of babble; each has its ratio to the speech alone.

    Args:
      waveform: samples of the speech.
      noises: pairs of samples and ``snr_db``, as for ``add_noise``.
      rng: draws the place of each.

    Returns:
      The sum.

    Raises:
      UserError: a noise holds no samples.
    """
    total = np.array(waveform, np.float32)
    for noise, snr_db in noises:
        segment = _excerpt(noise, len(waveform), rng)
        total += np.float32(_gain(waveform, segment, snr_db)) * segment
    return total


def add_noise_sequence(
    waveform: Float[np.ndarray, " n"],
    next_noise: Callable[[], tuple[Float[np.ndarray, " _"], float]],
    rng: np.random.Generator,
    *,
    gap_samples: int,
) -> Float32[np.ndarray, " n"]:
    """Adds one noise after another with pauses in between, like Kaldi's foreground noises.

    Args:
      waveform: samples of the speech.
      next_noise: gives samples at the same rate and ``snr_db``, power of the whole speech over power of this noise;
        called until the speech ends.
      rng: draws where to cut a noise that is longer than the rest of the speech.
      gap_samples: pause between the end of a noise and the start of the next.

    Returns:
      The sum.

    Raises:
      UserError: a noise holds no samples.

    References:
      ``augment_data_dir.py`` of Kaldi, https://github.com/kaldi-asr/kaldi (egs/wsj/s5/steps/data), option
      ``--fg-interval``; which starts every noise at its first sample.
    """
    total = np.array(waveform, np.float32)
    start = 0
    while start < len(total):
        noise, snr_db = next_noise()
        piece = _excerpt(noise, min(len(noise), len(total) - start), rng)
        total[start : start + len(piece)] += np.float32(_gain(waveform, piece, snr_db)) * piece
        start += len(piece) + gap_samples
    return total


def _excerpt(noise: Float[np.ndarray, " _"], num: int, rng: np.random.Generator) -> Float32[np.ndarray, " num"]:
    """``num`` samples from a random place; a shorter noise is repeated."""
    if not len(noise):
        raise UserError("The noise holds no samples. Leave the file out of the folder of noises.")
    start = rng.integers(len(noise) - num + 1 if len(noise) >= num else len(noise))
    return np.take(noise, np.arange(start, start + num), mode="wrap").astype(np.float32)


def _gain(speech: Float[np.ndarray, " n"], noise: Float[np.ndarray, " _"], snr_db: float) -> float:
    noise_power = _power(noise)
    return float(np.sqrt(_power(speech) / noise_power / 10 ** (snr_db / 10))) if noise_power > 0 else 0.0


def reverberate(waveform: Float[np.ndarray, " n"], room_response: Float[np.ndarray, " m"]) -> Float32[np.ndarray, " n"]:
    """Puts the speech into a room.

    Args:
      waveform: samples.
      room_response: impulse response at the same rate; its largest sample is the direct path.

    Returns:
      The speech in the room, without the delay of the direct path, with the energy of the input.

    Raises:
      UserError: the response is empty or all zeros.
    """
    if not np.any(room_response):
        raise UserError("The room response is empty or all zeros. Leave the file out of the folder of rooms.")
    from scipy.signal import fftconvolve  # here and below: SciPy loads slowly, and most commands do not need it

    direct = int(np.argmax(np.abs(room_response)))
    wet = fftconvolve(waveform, room_response)[direct : direct + len(waveform)]
    wet_power = _power(wet)
    gain = np.sqrt(_power(waveform) / wet_power) if wet_power > 0 else 0.0
    return (gain * wet).astype(np.float32)


def telephone_band(
    waveform: Float[np.ndarray, " n"], rng: np.random.Generator, *, sample_rate_hz: int = 16_000, mu_law: bool = True
) -> Float32[np.ndarray, " n"]:
    """Sends the speech through a telephone line: 8 kHz, about 300 to 3,400 Hz, 8-bit mu-law (ITU-T G.711).

    Args:
      waveform: samples.
      rng: draws the band edges.
      sample_rate_hz: rate of the waveform and of the result.
      mu_law: whether to quantise to mu-law; its noise follows the level of the speech.

    Returns:
      The speech at the far end, with the rate and the length of the input.
    """
    from scipy.signal import butter, sosfilt

    line = soxr.resample(waveform.astype(np.float32), sample_rate_hz, TELEPHONE_RATE_HZ)
    band = (rng.uniform(*TELEPHONE_LOW_HZ), rng.uniform(*TELEPHONE_HIGH_HZ))
    line = sosfilt(butter(4, band, "bandpass", fs=TELEPHONE_RATE_HZ, output="sos"), line)
    if mu_law:
        line = _through_mu_law(line)
    heard = soxr.resample(line.astype(np.float32), TELEPHONE_RATE_HZ, sample_rate_hz)
    return np.pad(heard[: len(waveform)], (0, max(0, len(waveform) - len(heard))))


def _through_mu_law(line: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Quantises to 8 bits on a logarithmic scale; the peak of the signal is full scale."""
    peak = np.max(np.abs(line), initial=0.0)
    if peak == 0:
        return line
    compressed = np.sign(line) * np.log1p(MU * np.abs(line) / peak) / np.log1p(MU)
    quantised = np.round(compressed * 127) / 127
    return np.sign(quantised) * np.expm1(np.abs(quantised) * np.log1p(MU)) / MU * peak


def _power(waveform: Float[np.ndarray, " n"]) -> float:
    """Returns the mean square, in float64."""
    return float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
