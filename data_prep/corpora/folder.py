"""Any folder ``speaker/**/*.wav``."""

import os
from pathlib import Path

from data_prep.manifest import Recording
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio_kinds import AUDIO_SUFFIXES


def folder_recordings(directory: str | Path) -> list[Recording]:
    """A folder with one folder of audio files per speaker.

    Args:
      directory: the folder; links in it are followed, what is hidden is not looked at.

    Returns:
      Recordings sorted by id, which is the path below ``directory`` with forward slashes.

    Raises:
      UserError: the folder does not exist or holds no audio, or a file lies beside the speakers' folders.
    """
    directory = Path(directory)
    files = audio_files(directory)
    recordings = []
    for path in files:
        below = path.relative_to(directory)
        if len(below.parts) == 1:
            raise UserError(
                f"{path} lies beside the speakers' folders, so its speaker is unknown. Every file must be in a folder "
                f"with the name of its speaker, {directory}/<speaker>/.../{path.name}; or give a CSV list."
            )
        recordings.append(Recording(utterance=below.as_posix(), speaker=below.parts[0], source=path))
    return recordings


def audio_files(directory: Path) -> list[Path]:
    """Every audio file below a folder, in sorted order.

    Args:
      directory: links in it are followed, but for those to a folder around them; what is hidden is not looked at.

    Raises:
      UserError: the folder does not exist or holds no audio, a folder in it can not be read, or a name is not UTF-8 and
        so can not be an id.
    """
    if not directory.is_dir():
        raise UserError(f"No such folder: {directory}. Give the folder that holds the audio.")
    files = []
    for parent, below, names in os.walk(directory, followlinks=True, onerror=_refuse):
        below[:] = [name for name in below if not name.startswith(".") and not _leads_back(parent, name)]
        files += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES
        ]
    if not files:
        raise UserError(f"No audio below {directory}; looked for files ending in {', '.join(sorted(AUDIO_SUFFIXES))}.")
    if unnamed := [path for path in files if not _is_utf8(str(path.relative_to(directory)))]:
        raise UserError(
            f"{os.fsencode(unnamed[0])!r}: the name is not UTF-8, so it can not be an id ({len(unnamed)} such files). "
            "Rename them, with convmv for instance."
        )
    return sorted(files, key=lambda path: path.as_posix())


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename}: the folder can not be read ({error.strerror}).") from error


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
