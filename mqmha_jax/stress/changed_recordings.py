"""Embeds recordings under a condition."""

import threading
import zlib
from collections.abc import Collection
from typing import NoReturn

import numpy as np
from jaxtyping import Float, Float32

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.audio_source import AudioSource
from mqmha_jax.evaluation.embeddings.recordings import Utterance, make_utterance
from mqmha_jax.evaluation.numbers import require_direction
from mqmha_jax.stress.conditions import Condition, Sound
from mqmha_jax.stress.plan import StressPlan
from mqmha_jax.stress.surroundings import Surroundings, SurroundingsError
from mqmha_jax.types import Embeddings

CACHE_BYTES = 1 << 30
"""Decoded recordings in memory, nearly five hours at 16 kHz; the others are decoded for every condition."""


class ChangedRecordings:
    """Loads recordings, changes them as a condition says and embeds the result."""

    def __init__(self, source: AudioSource, utterances: Collection[str], plan: StressPlan) -> None:
        """Finds noises and rooms.

        Args:
          source: of the recordings.
          utterances: ids of the usable ones.
          plan: names noises, rooms and the seed.

        Raises:
          UserError: a folder does not exist or holds no audio.
        """
        self._source, self._seed = source, plan.seed
        self._rate_hz = source.config.fbank.sample_rate_hz
        self._around = Surroundings(
            tuple(utterances), self._load, source.known.utt2spk, self._rate_hz, noise=plan.noise, rooms=plan.rooms
        )
        self._memory: dict[str, np.ndarray] = {}
        self._left = CACHE_BYTES
        self._lock = threading.Lock()  # recordings are read in threads

    def hear(self, utterance: str, name: str, condition: Condition) -> Float[np.ndarray, " _"]:
        """A recording under a condition; the same for the same seed, utterance and name of the condition.

        Raises:
          UserError: it cannot be used.
        """
        rng = np.random.default_rng([self._seed, zlib.crc32(name.encode()), zlib.crc32(utterance.encode())])
        return condition.change(Sound(self._load(utterance), self._rate_hz, utterance, self._around, rng))

    def embed(self, utterances: Collection[str], name: str, condition: Condition, *, title: str) -> Embeddings:
        """Embeds recordings under a condition.

        Args:
          utterances: ids.
          name: of the condition.
          condition: what happens to them.
          title: of the progress bar.

        Raises:
          UserError: one of them cannot be used any more.
        """

        def refuse(utterance: str, error: UserError) -> NoReturn:
            other = "" if isinstance(error, SurroundingsError) else f", or take {utterance} off the lists"
            raise UserError(f"{name}: {error} Leave this condition out by --conditions{other}.") from error

        def hear(utterance: str) -> Utterance:
            return make_utterance(utterance, self.hear(utterance, name, condition), self._source.config.fbank)

        found = self._source.embed_heard(utterances, hear, on_error=refuse, title=title)
        require_direction(found.vectors, found.ids, what=f"embeddings under {name}")
        return found

    def _load(self, utterance: str) -> Float32[np.ndarray, " n"]:
        if utterance in self._memory:
            return self._memory[utterance]
        waveform = self._source.load(utterance)
        waveform.flags.writeable = False  # the next condition needs it as it is
        with self._lock:
            if waveform.nbytes <= self._left and utterance not in self._memory:
                self._memory[utterance] = waveform
                self._left -= waveform.nbytes
        return waveform
