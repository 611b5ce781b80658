"""The recordings behind a trial list, as players inside the report."""

from pathlib import Path

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.report.html.elements import player, two_lines

# What browsers play. A page with forty recordings of this size is still mailed and opened at once.
_MEDIA_TYPES = {
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
}
_LARGEST_BYTES = 1 << 20


class Recordings:
    """A folder in which the ids of utterances are paths of recordings."""

    def __init__(self, root: Path) -> None:
        """Refers to a folder.

        Raises:
          UserError: there is no such folder.
        """
        if not root.is_dir():
            raise UserError(
                f"There is no folder {root}; --audio names the folder of the recordings in the trial lists."
            )
        self._root = root.resolve()

    def play(self, one: str, other: str) -> str:
        """A table cell with players of the two sides of a trial, or with the reason why there is none."""
        return two_lines(self._play(one), self._play(other))

    def _play(self, utterance: str) -> str:
        path = (self._root / utterance).resolve()
        # An id comes from a list that somebody may have sent: it names nothing outside the folder.
        if not path.is_relative_to(self._root) or not path.is_file():
            return "not found"
        if path.suffix.lower() not in _MEDIA_TYPES:
            return "no browser plays this kind"
        if path.stat().st_size > _LARGEST_BYTES:
            return "too long to embed"
        return player(path.read_bytes(), _MEDIA_TYPES[path.suffix.lower()], f"Recording {utterance}")
