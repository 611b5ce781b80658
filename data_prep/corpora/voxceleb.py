"""VoxCeleb1 and VoxCeleb2, unpacked from their archives, with the ids of the official trial lists."""

import csv
import dataclasses
import functools
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

from data_prep.corpora.layout import find_folder_around_speakers, require_folder, speaker_trees
from data_prep.manifest import Recording
from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.features.audio_folder import audio_files

Split = Literal["all", "dev", "test"]
PAGE = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb"
_ANY_SPEAKER = re.compile(r"id\d{5}")
_SPLIT_FOLDER = re.compile(r"(?:vox[12]_)?(dev|test)(?:_(?:wav|aac|m4a|mp4))?")


@dataclasses.dataclass(frozen=True)
class Edition:
    """The differences between the two corpora.

    Attributes:
      number: 1 or 2.
      speaker: form of its speakers' names.
      test_speaker: form of its test speakers' names; None where names do not tell them apart.
      layout: how its folders look.
      archives: the files that its owners distribute.
    """

    number: int
    speaker: re.Pattern[str]
    test_speaker: re.Pattern[str] | None
    layout: str
    archives: str

    @property
    def download(self) -> str:
        """How to get it."""
        return f"Get {self.archives} and vox{self.number}_meta.csv from {PAGE}/ and unpack them; valid: {self.layout}."


VOXCELEB1 = Edition(
    number=1,
    speaker=re.compile(r"id1\d{4}"),
    test_speaker=re.compile(r"id10(?:2[7-9]|30)\d"),
    layout="wav/id10001/<video>/00001.wav, in dev/ and test/ or not",
    archives="vox1_dev_wav.zip (in four parts; join them with cat) and vox1_test_wav.zip",
)
VOXCELEB2 = Edition(
    number=2,
    speaker=re.compile(r"id0\d{4}"),
    test_speaker=None,
    layout="dev/aac/id00012/<video>/00001.m4a, in dev/ and test/ or not",
    archives="vox2_dev_aac.zip (in eight parts; join them with cat) and vox2_test_aac.zip",
)


def voxceleb_recordings(
    edition: Edition, directory: str | Path, *, split: Split = "all", metadata: str | Path | None = None
) -> list[Recording]:
    """VoxCeleb1 or VoxCeleb2, with the ids of the official trial lists.

    Ids look like ``id10270/5r0dWxy17C8/00001.wav``. They end in ``.wav`` even where the file is an m4a. The attribute
    ``session`` is the video; ``gender`` and ``nationality`` come from the owners' table.

    Args:
      edition: ``VOXCELEB1`` or ``VOXCELEB2``.
      directory: the folder of the speakers, or a folder at most three levels above it.
      split: which speakers.
      metadata: the owners' table of speakers; None: vox1_meta.csv or vox2_meta.csv in DIRECTORY or below.

    Returns:
      Recordings sorted by id.

    Raises:
      UserError: the folder holds nothing of this edition, or files of the other one; a file is out of place; an id
        appears twice; the split of a speaker is unknown; or the given table has none of the speakers.
    """
    if split not in get_args(Split):
        raise unknown_name("split", split, get_args(Split))
    directory = require_folder(directory, edition.download)
    around = find_folder_around_speakers(directory, _ANY_SPEAKER)
    if around is not None:
        raise UserError(f"{directory} is the folder of one speaker or lies in it. Give the folder around it, {around}.")
    trees = list(speaker_trees(directory, _ANY_SPEAKER))
    if not trees:
        raise UserError(f"{directory} holds no folders of speakers (id and five digits). {edition.download}")
    table = _speakers(_find_metadata(edition, directory, trees) if metadata is None else Path(metadata))
    path_of: dict[str, Path] = {}
    recordings = []
    for tree in trees:
        for path in audio_files(tree):
            speaker, session, utterance = _names(edition, tree, path)
            known = table.get(speaker, {})
            if split != "all" and split != _split(edition, tree, speaker, known):
                continue
            if path_of.setdefault(utterance, path) != path:
                raise UserError(
                    f"{utterance} exists twice: {path_of[utterance]} and {path}. Give the folder of one of the two."
                )
            columns = {name: known[name] for name in ("gender", "nationality") if known.get(name)}
            recordings.append(Recording(utterance, speaker, path, {"session": session, **columns}))
    if not recordings:
        raise UserError(f"{directory} holds no recordings of the split {split}. {edition.download}")
    if metadata is not None and not any(recording.speaker in table for recording in recordings):
        raise UserError(
            f"{metadata} has none of the speakers of {directory}, such as {recordings[0].speaker}. Give "
            f"vox{edition.number}_meta.csv of {PAGE}/meta, or leave --metadata out."
        )
    return sorted(recordings, key=lambda recording: recording.utterance)


def _recordings_of(edition: Edition) -> Callable[..., list[Recording]]:
    recordings = functools.partial(voxceleb_recordings, edition)
    text = voxceleb_recordings.__doc__ or ""
    text = text.replace("VoxCeleb1 or VoxCeleb2", f"VoxCeleb{edition.number}")
    recordings.__doc__ = text.replace("vox1_meta.csv or vox2_meta.csv", f"vox{edition.number}_meta.csv")
    return recordings


voxceleb1_recordings = _recordings_of(VOXCELEB1)
voxceleb2_recordings = _recordings_of(VOXCELEB2)


def _names(edition: Edition, tree: Path, path: Path) -> tuple[str, str, str]:
    """Speaker, video and id of a file."""
    below = path.relative_to(tree).parts
    if not _ANY_SPEAKER.fullmatch(below[0]) or len(below) != 3:
        raise UserError(
            f"{path} is out of place: recordings of VoxCeleb{edition.number} lie in {tree}/<speaker>/<video>/<file>. "
            "Move it away, or give the folder of the corpus only."
        )
    speaker, session, _ = below
    if not edition.speaker.fullmatch(speaker):
        other = 3 - edition.number
        raise UserError(
            f"{path}: {speaker} is a speaker of VoxCeleb{other}. Use the command voxceleb{other}, or give the folder "
            f"of VoxCeleb{edition.number} only."
        )
    return speaker, session, f"{speaker}/{session}/{path.stem}.wav"


def _split(edition: Edition, tree: Path, speaker: str, known: Mapping[str, str]) -> str:
    if edition.test_speaker is not None:
        return "test" if edition.test_speaker.fullmatch(speaker) else "dev"
    if known.get("set") in get_args(Split):
        return known["set"]
    for folder in (tree, *list(tree.resolve().parents)[:2]):
        if match := _SPLIT_FOLDER.fullmatch(folder.name):
            return match[1]
    raise UserError(
        f"{tree}: it is unknown whether {speaker} belongs to dev or test: there is neither a folder dev/ or test/ nor "
        f"an entry in vox{edition.number}_meta.csv. Get {PAGE}/meta/vox{edition.number}_meta.csv and give it with "
        "--metadata FILE."
    )


def _find_metadata(edition: Edition, directory: Path, trees: list[Path]) -> Path | None:
    between = [folder for tree in trees for folder in (tree, *tree.parents) if folder.is_relative_to(directory)]
    candidates = [folder / f"vox{edition.number}_meta.csv" for folder in between]
    return next((path for path in candidates if path.is_file()), None)


def _speakers(path: Path | None) -> dict[str, dict[str, str]]:
    """Reads the owners' table, separated by tabs or commas, by speaker."""
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
        separator = "," if "," in text.partition("\n")[0] else "\t"
        rows = [[value.strip() for value in row] for row in csv.reader(io.StringIO(text), delimiter=separator)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: the metadata cannot be read ({error}).") from error
    header = [name.lower() for name in rows[0]] if rows else []
    if "gender" not in header or not header[0].startswith("voxceleb"):
        raise UserError(f"{path}:1: not the metadata of VoxCeleb, with a header that starts with VoxCeleb ID.")
    return {row[0]: dict(zip(header, row, strict=False)) for row in rows[1:] if row}
