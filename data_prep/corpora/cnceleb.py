"""CN-Celeb 1 and 2, unpacked from their archives, with the ids of the lists in ``eval/lists``."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from data_prep.corpora.layout import corpus_root, folders
from data_prep.manifest import Recording
from mqmha_jax.data.lists import text_lines
from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.features.audio_folder import audio_files

Split = Literal["all", "dev", "eval"]
_SPEAKER = re.compile(r"id\d{5}")
_DOWNLOAD = (
    "Get cn-celeb_v2.tar.gz (CN-Celeb1) and cn-celeb2_v2.tar.gz (CN-Celeb2, in three parts; join them with cat) "
    "from https://www.openslr.org/82/ and unpack them; valid: the folder CN-Celeb_flac or CN-Celeb2_flac."
)


def cnceleb_recordings(directory: str | Path, *, split: Split = "all") -> list[Recording]:
    """CN-Celeb 1 or 2, with the ids of its trial lists.

    Ids end in ``.wav``, as in the owners' lists, although the files are FLAC: ``enroll/id00800-enroll.wav`` and
    ``test/id00800-singing-01-001.wav`` as in ``trials.lst`` and ``enroll.lst``, and ``id00800/singing-01-001.wav`` for
    files in ``data/``, as in ``enroll.map``. Attributes are ``genre`` and ``session`` (a genre and a number).

    Args:
      directory: ``CN-Celeb_flac`` or ``CN-Celeb2_flac``, or the folder around it.
      split: dev holds the speakers to train on (those in ``dev/dev.lst``, or all of CN-Celeb2); eval holds the files of
        the trials, with the files in ``data/`` that ``eval/lists/enroll.map`` lists.

    Returns:
      Recordings: those of ``data/``, then of ``eval/``, each sorted by id.

    Raises:
      UserError: the corpus is missing or lacks a list that the split needs, or a name has another form.
    """
    if split not in get_args(Split):
        raise unknown_name("split", split, get_args(Split))
    root = corpus_root(directory, _is_root, expected="folder data/ with folders of speakers", download=_DOWNLOAD)
    recordings = list(_data(root))
    if split == "all":
        return recordings + list(_eval(root))
    if split == "dev":
        developers = _training_speakers(root, recordings)
        return [recording for recording in recordings if recording.speaker in developers]
    tested = list(_eval(root))
    if not tested:
        raise UserError(f"{root} has no folder eval/, so there is no split eval; CN-Celeb1 has it. {_DOWNLOAD}")
    enrolled = _enrolled_by_several(root)
    if missing := enrolled - {recording.utterance for recording in recordings}:
        raise UserError(f"{root}: eval/lists/enroll.map names {min(missing)}, which is not in data/. {_DOWNLOAD}")
    return [recording for recording in recordings if recording.utterance in enrolled] + tested


def _is_root(folder: Path) -> bool:
    data = folder / "data"
    return data.is_dir() and any(_SPEAKER.fullmatch(speaker.name) for speaker in folders(data))


def _data(root: Path) -> Iterator[Recording]:
    """``data/id00800/singing-01-001.flac``."""
    for path in audio_files(root / "data"):
        speaker = path.parent.name
        if not _SPEAKER.fullmatch(speaker) or path.parent.parent != root / "data":
            raise UserError(f"{path} is out of place: recordings lie in {root}/data/<speaker>/. Move it away.")
        yield Recording(f"{speaker}/{path.stem}.wav", speaker, path, _attributes(path, path.stem))


def _eval(root: Path) -> Iterator[Recording]:
    """``eval/enroll/id00800-enroll.flac`` and ``eval/test/id00800-singing-01-001.flac``."""
    for side in ("enroll", "test"):
        if not (root / "eval" / side).is_dir():
            continue
        for path in audio_files(root / "eval" / side):
            speaker, _, name = path.stem.partition("-")
            if not _SPEAKER.fullmatch(speaker):
                raise UserError(f"{path}: the name must start with a speaker, such as id00800-. Move the file away.")
            attributes = _attributes(path, name) if side == "test" else {"genre": "several", "session": "enroll"}
            yield Recording(f"{side}/{path.stem}.wav", speaker, path, attributes)


def _attributes(path: Path, name: str) -> dict[str, str]:
    """Genre and session from ``singing-01-001``."""
    session, _, number = name.rpartition("-")
    if not session or not number:
        raise UserError(f"{path}: the name must contain a genre, as singing-01-001 does. Move the file away.")
    return {"genre": session.partition("-")[0], "session": session}


def _training_speakers(root: Path, recordings: list[Recording]) -> set[str]:
    """The speakers to train on."""
    path = root / "dev" / "dev.lst"
    if path.is_file():
        return {speaker for _, line in text_lines(path) for speaker in line}
    if (root / "eval").is_dir():
        raise UserError(f"{path}: no such list; without it, training would include the speakers of eval/. {_DOWNLOAD}")
    return {recording.speaker for recording in recordings}  # CN-Celeb2 is for training as a whole


def _enrolled_by_several(root: Path) -> set[str]:
    """Ids in ``enroll.map``, lines ``id00800-enroll id00800/singing-01-001.wav ...``."""
    path = root / "eval" / "lists" / "enroll.map"
    if not path.is_file():
        return set()
    return {str(Path(name).with_suffix(".wav")) for _, line in text_lines(path) for name in line[1:]}
