"""Noises and room responses: MUSAN, RIRS_NOISES, or any folder of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from data_prep.corpora.layout import require_folder
from data_prep.corpora.sources import FilePart
from data_prep.manifest import Recording
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio import Part
from mqmha_jax.features.audio_folder import audio_files

NoiseKind = Literal["noise", "music", "speech"]
KINDS: tuple[NoiseKind, ...] = ("noise", "music", "speech")

FIRST_CHANNEL = Part(channel=0)
"""How to read a room response: the mean over microphones would be the response of no place in the room."""

_NOISE_DOWNLOAD = (
    "Get musan.tar.gz from https://www.openslr.org/17/ and unpack it; valid: the folder musan with noise/, music/ and "
    "speech/, or any folder of noises."
)
_ROOM_DOWNLOAD = (
    "Get rirs_noises.zip from https://www.openslr.org/28/ and unpack it; valid: the folder RIRS_NOISES, or any folder "
    "of room impulse responses."
)
_SIMULATED, _REAL, _POINT = "simulated_rirs", "real_rirs_isotropic_noises", "pointsource_noises"


def noise_files(root: str | Path) -> Mapping[NoiseKind, list[Path]]:
    """Lists the files to mix under speech, by kind.

    Args:
      root: ``musan``, the folder around it or the folder of one kind in it; ``RIRS_NOISES`` or the folder around it
        (its point sources and isotropic noises are "noise"); or any other folder (all its files are "noise").

    Returns:
      Sorted files of each kind that exists.

    Raises:
      UserError: the folder does not exist or holds no audio.
    """
    given = require_folder(root, _NOISE_DOWNLOAD)
    for folder in (given, given / "musan"):
        if _is_musan(folder):
            return {kind: audio_files(folder / kind) for kind in KINDS if (folder / kind).is_dir()}
    for folder in (given, given / "RIRS_NOISES"):
        if _is_rirs(folder):
            files = [
                path for name in (_POINT, _REAL) if (folder / name).is_dir() for path in audio_files(folder / name)
            ]
            return {"noise": [path for path in files if path.parent.name == _POINT or _is_isotropic(path)]}
    kinds = [kind for kind in KINDS if kind == given.name and _is_musan(given.parent)]
    return {kinds[0] if kinds else KINDS[0]: audio_files(given)}


def room_files(root: str | Path) -> list[Path]:
    """Lists files of room impulse responses; read ``FIRST_CHANNEL`` of them.

    Args:
      root: ``RIRS_NOISES`` (its simulated and real responses, not its noises); a folder in it; or any other folder.

    Returns:
      Sorted files.

    Raises:
      UserError: the folder does not exist or holds no room responses.
    """
    folder = require_folder(root, _ROOM_DOWNLOAD)
    if _is_rirs(folder / "RIRS_NOISES"):
        folder /= "RIRS_NOISES"
    parts = [folder / name for name in (_SIMULATED, _REAL) if (folder / name).is_dir()] or [folder]
    files = [path for part in parts for path in audio_files(part) if not _is_isotropic(path)]
    if not files:
        raise UserError(f"{folder} holds noises, but no room responses. {_ROOM_DOWNLOAD}")
    return sorted(files)


def noise_recordings(directory: str | Path) -> list[Recording]:
    """Noise, music and speech for augmentation, such as MUSAN.

    The speaker is the kind; an id is the path below the folder, such as ``noise/free-sound/a.wav``.

    Args:
      directory: MUSAN, RIRS_NOISES, or any folder of noises.

    Raises:
      UserError: as ``noise_files``.
    """
    recordings = []
    for kind, files in noise_files(directory).items():
        for path in files:
            recordings.append(Recording(path.relative_to(directory).as_posix(), kind, path, is_speech=False))
    return recordings


def room_recordings(directory: str | Path) -> list[Recording]:
    """Room impulse responses, such as RIRS_NOISES.

    Only the first of several channels is read. All have one speaker, "room"; an id is the path below the folder.

    Args:
      directory: RIRS_NOISES, or any folder of room impulse responses.

    Raises:
      UserError: as ``room_files``.
    """
    return [
        Recording(path.relative_to(directory).as_posix(), "room", FilePart(path, FIRST_CHANNEL), is_speech=False)
        for path in room_files(directory)
    ]


def _is_musan(folder: Path) -> bool:
    return (folder / "music").is_dir() and (folder / "noise").is_dir()


def _is_rirs(folder: Path) -> bool:
    return (folder / _SIMULATED).is_dir() or (folder / _REAL).is_dir()


def _is_isotropic(path: Path) -> bool:
    """In RIRS_NOISES, files such as ``RVB2014_type1_noise_largeroom1_1.wav`` are noises; all others are responses."""
    return path.parent.name == _REAL and "_noise_" in path.name
