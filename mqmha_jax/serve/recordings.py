"""Uploaded audio in memory, with a name that only messages use."""

import hashlib
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from mqmha_jax.errors import printable
from mqmha_jax.features.audio import read_audio_bytes
from mqmha_jax.features.mixdown import TooLongError

LONGEST_NAME = 60


class Recording(NamedTuple):
    """An uploaded audio file.

    Attributes:
      name: what messages call it.
      content: the bytes of the file; its kind is what they say.
    """

    name: str
    content: bytes

    @property
    def unique_name(self) -> str:
        """The name and the beginning of a hash of the content; different files may have one name."""
        return f"{self.name} {hashlib.sha256(self.content).hexdigest()[:8]}"

    def decode(self, sample_rate_hz: int, longest_s: float) -> Float32[np.ndarray, " n"]:
        """The samples, of one channel.

        Args:
          sample_rate_hz: of the result.
          longest_s: a longer recording is refused.

        Raises:
          TooLongError: the recording is too long.
          UserError: it cannot be read as audio, see ``read_audio``.
        """
        try:
            return read_audio_bytes(self.content, self.name, sample_rate_hz, longest_s=longest_s)
        except TooLongError as error:
            limit = f"{longest_s / 60:g} minutes" if longest_s >= 60 else f"{longest_s:g} s"
            raise TooLongError(
                f"{self.name}: is longer than {limit}, the limit of this server; send a part of it."
            ) from error


def label(file_name: str | None, otherwise: str) -> str:
    """A short name for messages, from the name that a client gave; never the name of a file here."""
    name = printable(PurePosixPath((file_name or "").replace("\\", "/")).name.strip())
    if not name or name == "blob":  # what browsers call a file without a name
        return otherwise
    return name if len(name) <= LONGEST_NAME else f"...{name[-LONGEST_NAME:]}"
