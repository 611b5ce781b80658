"""The audio files below a folder: all of them, or those that a list names."""

import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.features.audio_kinds import AUDIO_SUFFIXES

_BESIDE_AUDIO = {
    "", ".csv", ".html", ".jpg", ".json", ".jsonl", ".lab", ".log", ".md", ".md5", ".npy", ".npz", ".pdf", ".png",
    ".scp", ".textgrid", ".toml", ".trn", ".tsv", ".txt", ".xml", ".yaml", ".yml", ".zip",
}  # fmt: skip
"""Endings of files that usually accompany audio and are not audio."""

_log = logging.getLogger(__name__)


def audio_files(directory: Path, *, refuse_names: bool = True) -> list[Path]:
    """Every audio file below a folder, in sorted order; logs how many files of other kinds were left out.

    Args:
      directory: links in it are followed, but for those to a folder around them; what is hidden is not looked at.
      refuse_names: refuse a name that is not UTF-8 and so cannot be an id.

    Raises:
      UserError: the folder does not exist or holds no audio, a folder in it cannot be read, or a name is refused.
    """
    if not directory.is_dir():
        raise UserError(f"No such folder: {directory}. Give the folder that holds the audio.")
    files = []
    others: Counter[str] = Counter()
    for parent, below, names in os.walk(directory, followlinks=True, onerror=_refuse):
        below[:] = [name for name in below if not name.startswith(".") and not _leads_back(parent, name)]
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if suffix in AUDIO_SUFFIXES:
                files.append(Path(parent, name))
            elif suffix not in _BESIDE_AUDIO:
                others[suffix] += 1
    ignored = _describe_ignored(others)
    if not files:
        endings = ", ".join(sorted(AUDIO_SUFFIXES))
        raise UserError(f"No audio below {directory}; looked for files ending in {endings}. {ignored}".rstrip())
    if ignored:
        _log.warning("%s: %s", directory, ignored)
    if refuse_names and (unnamed := [path for path in files if not _is_utf8(str(path.relative_to(directory)))]):
        raise UserError(
            f"{os.fsencode(unnamed[0])!r}: the name is not UTF-8, so it cannot be an id "
            f"({count_noun(len(unnamed), 'such file')}). Rename them, with convmv for instance."
        )
    return sorted(files, key=lambda path: path.as_posix())


def find_recordings(root: Path, utterances: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """Finds the recordings that a list names.

    An id is a path below the folder. Where no file has this name, one with the ending of another kind of audio counts
    if it is the only one: lists of VoxCeleb say ``.wav`` for what is kept as ``.m4a`` or ``.flac``, and others give no
    ending.

    Args:
      root: the folder.
      utterances: ids.

    Returns:
      The files by id, and the ids of those that are not there (or not below the folder).

    Raises:
      UserError: the folder does not exist.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}; --audio names the folder that holds the recordings of the lists.")
    found: dict[str, Path] = {}
    missing = []
    for utterance in dict.fromkeys(utterances):
        path = _find_recording(root, utterance)
        if path is None:
            missing.append(utterance)
        else:
            found[utterance] = path
    return found, missing


def _find_recording(root: Path, utterance: str) -> Path | None:
    path = root / utterance
    if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root)):
        return None
    if os.path.isfile(path):
        return path
    for stem in (str(path), os.path.splitext(path)[0]):
        others = [Path(stem + suffix) for suffix in AUDIO_SUFFIXES if os.path.isfile(stem + suffix)]
        if len(others) == 1:
            return others[0]
    return None


def _describe_ignored(others: Counter[str]) -> str:
    if not others:
        return ""
    kinds: Iterable[str] = (f"{suffix} {count:,}" for suffix, count in sorted(others.items()))
    return f"Ignored {count_noun(others.total(), 'file')} with endings that no reader knows: {', '.join(kinds)}."


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename}: the folder cannot be read ({error.strerror}).") from error


def _leads_back(parent: str, name: str) -> bool:
    """Whether a folder is a link to one that it lies in, which would be walked for ever."""
    path = os.path.join(parent, name)
    return os.path.islink(path) and Path(os.path.realpath(parent)).is_relative_to(os.path.realpath(path))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
