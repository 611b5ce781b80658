"""Any folder ``speaker/**/*.wav``."""

from pathlib import Path

from data_prep.manifest import Recording
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio_folder import audio_files


def folder_recordings(directory: str | Path) -> list[Recording]:
    """A folder with one folder of audio files per speaker.

    Args:
      directory: the folder; follows links in it, and skips what is hidden.

    Returns:
      Recordings sorted by id, which is the path below ``directory`` with forward slashes.

    Raises:
      UserError: the folder does not exist or holds no audio, or a file lies next to the speakers' folders.
    """
    directory = Path(directory)
    files = audio_files(directory)
    recordings = []
    for path in files:
        below = path.relative_to(directory)
        if len(below.parts) == 1:
            raise UserError(
                f"{path} lies next to the speakers' folders, so its speaker is unknown. Every file must be in a folder "
                f"with the name of its speaker, {directory}/<speaker>/.../{path.name}; or give a CSV list."
            )
        recordings.append(Recording(utterance=below.as_posix(), speaker=below.parts[0], source=path))
    return recordings
