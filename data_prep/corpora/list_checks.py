"""Checks that apply to lists of recordings of any format."""

from collections.abc import Iterable
from pathlib import Path

from data_prep.manifest import Recording
from mqmha_jax.errors import UserError


def find_root(list_path: Path, root: str | Path | None, *, form: str) -> Path:
    """Finds the folder that the paths of a list start from: the given one, or that of the list.

    Args:
      list_path: the list.
      root: given folder; None: that of the list.
      form: what the list should be, for the message.

    Raises:
      UserError: the list or the folder does not exist.
    """
    if not list_path.is_file():
        raise UserError(f"No such list: {list_path}. Give {form}.")
    root = list_path.parent if root is None else Path(root)
    if not root.is_dir():
        raise UserError(f"No such folder: {root}. --root is what the paths in {list_path} are relative to.")
    return root


def collect_recordings(numbered: Iterable[tuple[int, Recording]], list_path: Path, *, parts: str) -> list[Recording]:
    """Gathers the recordings of a list.

    Args:
      numbered: line of the list and its recording.
      list_path: the list, for the messages.
      parts: how a line names a part of a file, for the message about a repeated id.

    Raises:
      UserError: an id appears twice, or the list is empty.
    """
    recordings: list[Recording] = []
    line_of: dict[str, int] = {}
    for line, recording in numbered:
        earlier = line_of.setdefault(recording.utterance, line)
        if earlier != line:
            raise UserError(
                f"{list_path}:{line}: utterance {recording.utterance!r} was listed before, in line {earlier}, and ids "
                f"are unique. Remove one of the two lines; or, to list several parts of a file, {parts}."
            )
        recordings.append(recording)
    if not recordings:
        raise UserError(f"{list_path} lists no recordings.")
    return recordings
