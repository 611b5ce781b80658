"""Embeds the recordings of a trial list as players in the report."""

from collections.abc import Sequence
from pathlib import Path

from mqmha_jax.errors import count_noun
from mqmha_jax.evaluation.metrics.results import ListEvaluation
from mqmha_jax.evaluation.report.html.elements import player, two_lines
from mqmha_jax.features.audio_folder import find_recordings

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
        find_recordings(root, ())
        self._root = root.resolve()

    def explain_silence(self, lists: Sequence[ListEvaluation]) -> str | None:
        """Says so if none of the recordings in the lists is in the folder; None otherwise."""
        utterances = dict.fromkeys(name for part in lists for name in (*part.trials.enrol, *part.trials.test))
        found, missing = find_recordings(self._root, utterances)
        if found:
            return None
        return (
            f"none of {count_noun(len(missing), 'recording')} in the lists is below {self._root}, so the report plays "
            f"none; there is no {self._root / missing[0]} for instance."
        )

    def play(self, one: str, other: str) -> str:
        """Makes a table cell with a player for each side of a trial, or the reason why there is none."""
        return two_lines(self._play(one), self._play(other))

    def _play(self, utterance: str) -> str:
        found, _ = find_recordings(self._root, [utterance])
        # Somebody may have sent the list: its ids must not reach a file outside the folder, not even by a link.
        if not found or not (path := found[utterance].resolve()).is_relative_to(self._root):
            return "not found"
        if path.suffix.lower() not in _MEDIA_TYPES:
            return "no browser plays this kind"
        if path.stat().st_size > _LARGEST_BYTES:
            return "too long to embed"
        return player(path.read_bytes(), _MEDIA_TYPES[path.suffix.lower()], f"Recording {utterance}")
