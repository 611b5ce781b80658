"""Noises and rooms for the conditions: from folders, or made from the recordings under test and from decaying noise."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import read_audio
from mqmha_jax.features.audio_folder import audio_files

VOICES = 6
"""Number of babble voices: with fewer, a listener still follows one of them."""

SHAPED_BY = 40
"""Number of recordings whose mean spectrum shapes the noise."""

LONGEST_NOISE_S = 60
"""Seconds from the beginning of a noise file that are used."""

BETWEEN_ECHOES_S = 0.1
"""The reverberation time at which the echoes are as strong as the direct path; they grow in proportion to it."""


class SurroundingsError(UserError):
    """There is no usable noise, voice or room for a condition, whatever recording is under test."""


Load = Callable[[str], Float32[np.ndarray, " _"]]


class Surroundings:
    """Noises and rooms to add to speech.

    All choices come from the generators that are passed in, so they depend on neither the order of the recordings nor
    the number of threads.

    Attributes:
      has_rooms: a folder of rooms was given.
    """

    def __init__(
        self,
        utterances: Sequence[str],
        load: Load,
        utt2spk: Mapping[str, str],
        rate_hz: int,
        *,
        noise: Path | None = None,
        rooms: Path | None = None,
    ) -> None:
        """Finds the noises and rooms; reads them when they are needed.

        Args:
          utterances: ids of the recordings under test.
          load: reads one of them, at ``rate_hz``.
          utt2spk: their speakers, so that nobody babbles in his own background; may lack some.
          rate_hz: sample rate of everything.
          noise: folder of noises; None: noise with the spectrum of the recordings.
          rooms: folder of impulse responses; None: none.

        Raises:
          UserError: a folder does not exist or holds no audio.
        """
        self._utterances, self._load, self._utt2spk, self._rate_hz = tuple(utterances), load, utt2spk, rate_hz
        self._noises = audio_files(noise) if noise else []
        self._rooms = audio_files(rooms) if rooms else []
        self.has_rooms = bool(self._rooms)
        # An instance's own caches; one of a class would keep every instance alive.
        self._read = functools.lru_cache(maxsize=64)(self._read_file)
        self._spectrum = functools.cache(self._mean_spectrum)

    def noise(self, num_samples: int, rng: np.random.Generator) -> Float32[np.ndarray, " _"]:
        """A noise of the folder; without one, as many samples of noise with the mean spectrum of the recordings.

        Raises:
          SurroundingsError: the noise cannot be read, or is silent.
        """
        if self._noises:
            return self._draw(self._noises, "noise", rng)
        frequencies, amplitude = self._spectrum()
        bins = np.fft.rfftfreq(num_samples, 1 / self._rate_hz)
        draws = rng.standard_normal((2, len(bins)))
        shaped = np.interp(bins, frequencies, amplitude) * (draws[0] + 1j * draws[1])
        return np.fft.irfft(shaped, num_samples).astype(np.float32)

    def babble(self, num_samples: int, rng: np.random.Generator, *, utterance: str) -> Float32[np.ndarray, " n"]:
        """Several recordings of other speakers at once, all equally loud, each repeated from a random place.

        Args:
          num_samples: n.
          rng: chooses them.
          utterance: whose background it is.

        Raises:
          SurroundingsError: there is no recording of another speaker.
        """
        own = self._utt2spk.get(utterance)
        total = np.zeros(num_samples, np.float32)
        # A permutation of all would be slow for 100,000 recordings; a few draws nearly always suffice.
        drawn = rng.integers(len(self._utterances), size=50 * VOICES)
        others = dict.fromkeys(self._utterances[i] for i in drawn)
        chosen = [u for u in others if u != utterance and (own is None or self._utt2spk.get(u) != own)][:VOICES]
        if not chosen:
            raise SurroundingsError("Babble is made of recordings of other speakers, and there are none.")
        for name in chosen:
            voice = self._load(name)
            start = rng.integers(len(voice))
            loudness = float(np.sqrt(np.mean(np.square(voice, dtype=np.float64))))
            piece = np.take(voice, np.arange(start, start + num_samples), mode="wrap")
            total += piece / np.float32(loudness or 1)
        return total

    def room(self, rng: np.random.Generator) -> Float32[np.ndarray, " m"]:
        """An impulse response of the folder.

        Raises:
          SurroundingsError: it cannot be read, or is silent.
        """
        return self._draw(self._rooms, "impulse response", rng)

    def _draw(self, paths: list[Path], kind: str, rng: np.random.Generator) -> Float32[np.ndarray, " n"]:
        path = paths[rng.integers(len(paths))]
        sound = self._read(path)
        if not sound.any():
            raise SurroundingsError(f"{path}: the {kind} is empty or all zeros. Remove it from the folder.")
        return sound

    def _read_file(self, path: Path) -> Float32[np.ndarray, " n"]:
        try:
            return read_audio(path, self._rate_hz)[: LONGEST_NOISE_S * self._rate_hz]
        except UserError as error:
            raise SurroundingsError(f"{error} You may also remove the file.") from error

    def _mean_spectrum(self) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
        """Frequencies, and the root of the mean power of evenly spaced recordings there, each equally loud."""
        from scipy.signal import welch  # here: SciPy loads slowly

        last = len(self._utterances) - 1
        rows = np.unique(np.linspace(0, last, SHAPED_BY).round().astype(int))
        frequencies, total = np.fft.rfftfreq(512, 1 / self._rate_hz), np.zeros(257)
        for row in rows:
            waveform = self._load(self._utterances[row]).astype(np.float64)
            power = welch(np.pad(waveform, (0, max(0, 512 - len(waveform)))), self._rate_hz, nperseg=512)[1]
            total += power / (power.sum() or 1)
        return frequencies, np.sqrt(total / len(rows))


def decaying_room(reverberation_s: float, rate_hz: int, rng: np.random.Generator) -> Float32[np.ndarray, " m"]:
    """Makes an impulse response: a direct path, then noise that decays exponentially (Polack's model, 1988).

    Args:
      reverberation_s: time in which the echoes lose 60 dB.
      rate_hz: sample rate.
      rng: draws the noise.

    Returns:
      As many samples as the reverberation time has. The echoes together are stronger than the direct path by
      ``10 log10(reverberation_s / 0.1)`` dB, about as for a speaker two metres away in a room of 100 cubic metres.
    """
    delay = np.arange(round(reverberation_s * rate_hz))
    echoes = rng.standard_normal(len(delay)) * 10.0 ** (-3 * delay / (reverberation_s * rate_hz))
    echoes[0] = 0
    echoes *= np.sqrt(reverberation_s / BETWEEN_ECHOES_S / np.sum(np.square(echoes)))
    response = np.clip(echoes, -0.9, 0.9)  # the direct path stays the largest sample
    response[0] = 1
    return response.astype(np.float32)
