"""LibriSpeech and mini LibriSpeech, unpacked from the archives at openslr.org."""

from collections.abc import Sequence
from pathlib import Path

from data_prep.archives import extract
from data_prep.corpora.layout import corpus_root, folders
from data_prep.download import download as download_file
from data_prep.manifest import Recording
from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.features.audio_folder import audio_files

OPENSLR = "https://www.openslr.org/resources"
ARCHIVES = {
    "dev-clean-2": ("31", "6d7ab67ac6a1d2c993d050e16d61080d"),
    "train-clean-5": ("31", "5df7d4e78065366204ca6845bb08f490"),
    "dev-clean": ("12", "42e2234ba48799c1f50f24a7926300a1"),
    "dev-other": ("12", "c8d0bcc9cca99d4f8b62fcc847357931"),
    "test-clean": ("12", "32fa31d27d2e1cad72775fee3f4849a9"),
    "test-other": ("12", "fb5a50374b501bb3bac4815ee91d3135"),
    "train-clean-100": ("12", "2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": ("12", "c0e676e450a7ff2f54aeade5171606fa"),
    "train-other-500": ("12", "d1a0fd59409feb2c614ce4d30c387708"),
}
"""Number at OpenSLR and published MD5 of each subset; number 31 is mini LibriSpeech, 126 and 332 MB."""

TOP = "LibriSpeech"
_DOWNLOAD = (
    f"Get it with --download NAME, or from https://www.openslr.org/12/ and https://www.openslr.org/31/ (mini). Valid "
    f"names: {', '.join(ARCHIVES)}. The unpacked files lie in the folder {TOP}."
)


def librispeech_recordings(
    directory: str | Path, *, subset: Sequence[str] = (), download: Sequence[str] = ()
) -> list[Recording]:
    """LibriSpeech or mini LibriSpeech, downloaded on request.

    Ids are the owners', such as ``84-121123-0000``. The attribute ``session`` is the chapter; ``subset`` and, from
    ``SPEAKERS.TXT``, ``gender`` are attributes too.

    Args:
      directory: ``LibriSpeech``, or the folder around it.
      subset: subset to read, such as dev-clean; may be repeated; None: all that exist.
      download: subset to download from openslr.org first, unless it exists; may be repeated; dev-clean-2 is the
        smallest (126 MB).

    Returns:
      Recordings sorted by subset and id.

    Raises:
      UserError: the corpus or a subset is missing or cannot be downloaded, or a file is out of place.
    """
    for name in download:
        fetch(name, Path(directory))
    root = corpus_root(directory, _is_root, expected="subset of LibriSpeech", download=_DOWNLOAD)
    there = [folder.name for folder in _subsets(root)]
    for name in subset:
        if name not in there:
            raise UserError(f"{root} has no subset {name!r}; it has {', '.join(there)}. {_DOWNLOAD}")
    genders = _genders(root / "SPEAKERS.TXT")
    return [recording for name in subset or there for recording in _recordings(root / name, genders)]


def fetch(subset: str, directory: Path) -> None:
    """Downloads and unpacks a subset unless it exists.

    Args:
      subset: a key of ``ARCHIVES``.
      directory: where the folder ``LibriSpeech`` goes.

    Raises:
      UserError: an unknown name, no connection, a wrong checksum or a full disk.
    """
    if subset not in ARCHIVES:
        raise unknown_name("subset of LibriSpeech", subset, ARCHIVES)
    # The folder appears last, so one that exists is complete.
    if (directory / TOP / subset).is_dir():
        return
    number, md5 = ARCHIVES[subset]
    archive = directory / f"{subset}.tar.gz"
    was_brought = archive.exists()
    download_file(f"{OPENSLR}/{number}/{subset}.tar.gz", archive, md5=md5)
    extract(archive, directory)
    if not was_brought:
        archive.unlink()


def _subsets(root: Path) -> list[Path]:
    return [folder for folder in folders(root) if folder.name in ARCHIVES]


def _is_root(folder: Path) -> bool:
    return bool(_subsets(folder))


def _recordings(folder: Path, genders: dict[str, str]) -> list[Recording]:
    recordings = []
    for path in audio_files(folder):
        parts = path.relative_to(folder).parts
        if len(parts) != 3 or not path.stem.startswith(f"{parts[0]}-{parts[1]}-"):
            raise UserError(
                f"{path} is out of place: recordings of LibriSpeech have names such as "
                f"{folder}/84/121123/84-121123-0000.flac. Move it away."
            )
        speaker, chapter, _ = parts
        attributes = {"session": chapter, "subset": folder.name}
        if speaker in genders:
            attributes["gender"] = genders[speaker]
        recordings.append(Recording(path.stem, speaker, path, attributes))
    return recordings


def _genders(path: Path) -> dict[str, str]:
    """Reads lines ``14   | F | train-clean-360  | 25.03 | Kristin LeMoine``; ``;`` starts a comment."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    rows = [[field.strip() for field in line.split("|")] for line in lines if "|" in line and not line.startswith(";")]
    return {row[0]: row[1].lower() for row in rows}
