"""What a corpus is to the rest of the job: recordings with a name, a speaker and a way to their samples."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mqmha_jax.features.audio import read_audio


class Recording(NamedTuple):
    """One utterance of a corpus, not yet read.

    Attributes:
      utterance: id, unique in the corpus; trial lists name it.
      speaker: name of the speaker.
      source: an audio file, or a function from a sample rate in Hz to samples ``[n]`` (it is sent to worker processes,
        so it must pickle: a function of a module, or a ``functools.partial`` of one).
      attributes: further string columns of the shards.
      is_speech: whether speech is expected; False for noises and room responses, whose speech nobody measures.
    """

    utterance: str
    speaker: str
    source: Path | Callable[[int], Float[np.ndarray, " n"]]
    attributes: Mapping[str, str] = {}
    is_speech: bool = True

    @property
    def origin(self) -> str:
        """What to call the recording in a report: where it comes from, or its name if its source does not say."""
        says = type(self.source).__str__ is not object.__str__  # a path does, and the sources that the corpora define
        return str(self.source) if says else self.utterance

    def waveform(self, sample_rate_hz: int) -> Float[np.ndarray, " n"]:
        """The samples, in [-1, 1].

        Raises:
          UserError: the file cannot be read; says why.
        """
        return read_audio(self.source, sample_rate_hz) if isinstance(self.source, Path) else self.source(sample_rate_hz)
