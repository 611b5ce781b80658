"""Finds the folder of a corpus; if it is missing or the wrong folder was given, an error says what to do."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mqmha_jax.errors import UserError


def corpus_root(directory: str | Path, is_root: Callable[[Path], bool], *, expected: str, download: str) -> Path:
    """Finds the folder of a corpus, given that folder or the one around it.

    Args:
      directory: the folder that the user gave.
      is_root: whether a folder is that of the corpus.
      expected: what lies in that folder, for the message.
      download: how to get the corpus, for the message.

    Returns:
      ``directory``, or the only folder in it that is the corpus.

    Raises:
      UserError: there is no such folder, several folders in it qualify, or only a folder around it does.
    """
    directory = require_folder(directory, download)
    if is_root(directory):
        return directory
    below = [folder for folder in folders(directory) if is_root(folder)]
    if len(below) == 1:
        return below[0]
    if below:
        raise UserError(f"{directory} holds several corpora: {', '.join(map(str, below))}. Give one of them.")
    for parent in list(directory.resolve().parents)[:4]:
        if is_root(parent):
            raise UserError(f"{directory} is a part of the corpus. Give the folder around it, {parent}.")
    raise UserError(f"{directory} has no {expected}. {download}")


def require_folder(directory: str | Path, download: str) -> Path:
    """Returns the folder as a path.

    Raises:
      UserError: it does not exist; the message says how to get the corpus.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"No such folder: {directory}. {download}")
    return directory


def folders(directory: Path) -> list[Path]:
    """Lists the visible folders in a folder, sorted.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with os.scandir(directory) as entries:
            return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError as error:
        raise UserError(f"{directory}: the folder cannot be read ({error.strerror}).") from error


def speaker_trees(directory: Path, speaker: re.Pattern[str], depth: int = 3) -> Iterator[Path]:
    """Yields the folders, at most ``depth`` levels below, that directly contain speakers' folders.

    Args:
      directory: where to start; it is itself a candidate.
      speaker: form of the name of a speaker's folder.
      depth: number of levels to descend.
    """
    below = folders(directory)
    if any(speaker.fullmatch(folder.name) for folder in below):
        yield directory
    elif depth:
        for folder in below:
            yield from speaker_trees(folder, speaker, depth - 1)


def find_folder_around_speakers(directory: Path, speaker: re.Pattern[str]) -> Path | None:
    """Finds the folder around the speakers' folders if ``directory`` is one of these or lies below one."""
    absolute = directory.resolve()
    inside = [folder for folder in (absolute, *absolute.parents) if speaker.fullmatch(folder.name)]
    return inside[-1].parent if inside else None
