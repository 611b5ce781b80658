"""Embeds the recordings of a trial list as players in the report."""

from pathlib import Path

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.report.html.elements import player, two_lines

# The kinds that browsers play. A page with forty recordings of this size is still small enough to mail.
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
    """A folder that holds each utterance's recording under its id as path."""

    def __init__(self, root: Path) -> None:
        """Takes a folder.

        Raises:
          UserError: the folder does not exist.
        """
        if not root.is_dir():
            raise UserError(
                f"There is no folder {root}; --audio names the folder of the recordings in the trial lists."
            )
        self._root = root.resolve()

    def play(self, one: str, other: str) -> str:
        """Makes a table cell with a player for each side of a trial, or the reason why there is none."""
        return two_lines(self._play(one), self._play(other))

    def _play(self, utterance: str) -> str:
        path = (self._root / utterance).resolve()
        # Somebody may have sent the list: its ids must not reach a file outside the folder.
        if not path.is_relative_to(self._root) or not path.is_file():
            return "not found"
        if path.suffix.lower() not in _MEDIA_TYPES:
            return "no browser plays this kind"
        if path.stat().st_size > _LARGEST_BYTES:
            return "too long to embed"
        return player(path.read_bytes(), _MEDIA_TYPES[path.suffix.lower()], f"Recording {utterance}")
