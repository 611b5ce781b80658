"""The recordings of a corpus: each has an id, a speaker and a source of samples."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mqmha_jax.features.audio import read_audio


class Recording(NamedTuple):
    """An utterance of a corpus, not yet read.

    Attributes:
      utterance: id, unique in the corpus; trial lists name it.
      speaker: name of the speaker.
      source: an audio file, or a function from a sample rate in Hz to samples ``[n]``. It is sent to worker processes,
        so it must be picklable: a module's function, or a ``functools.partial`` of one.
      attributes: further string columns of the shards.
      is_speech: whether speech is expected; False for noises and room responses.
    """

    utterance: str
    speaker: str
    source: Path | Callable[[int], Float[np.ndarray, " n"]]
    attributes: Mapping[str, str] = {}
    is_speech: bool = True

    @property
    def origin(self) -> str:
        """The recording's name in reports: its source, or its id if the source has no readable form."""
        says = type(self.source).__str__ is not object.__str__  # as paths and the sources of our corpora have
        return str(self.source) if says else self.utterance

    def waveform(self, sample_rate_hz: int) -> Float[np.ndarray, " n"]:
        """Reads the samples, in [-1, 1].

        Raises:
          UserError: the file cannot be read.
        """
        return read_audio(self.source, sample_rate_hz) if isinstance(self.source, Path) else self.source(sample_rate_hz)
