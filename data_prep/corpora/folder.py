"""Any folder ``speaker/**/*.wav``."""

import os
from pathlib import Path

from data_prep.manifest import Recording
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import FFMPEG_SUFFIXES

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".opus", ".ogg", ".mp3"}) | FFMPEG_SUFFIXES
"""Upper case counts as well."""


def folder_recordings(directory: str | Path) -> list[Recording]:
    """The audio files below a folder whose direct sub-folders are speakers, as in VoxCeleb and LibriSpeech.

    Args:
      directory: the folder; links in it are followed, hidden files are not looked at.

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

    Raises:
      UserError: the folder does not exist or holds no audio.
    """
    if not directory.is_dir():
        raise UserError(f"No such folder: {directory}. Give the folder that holds the audio.")
    files = [
        Path(parent, name)
        for parent, _, names in os.walk(directory, followlinks=True)
        for name in names
        if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")
    ]
    if not files:
        raise UserError(f"No audio below {directory}; looked for files ending in {', '.join(sorted(AUDIO_SUFFIXES))}.")
    return sorted(files, key=lambda path: path.as_posix())
