"""Checks the official trial lists of the field and converts them to our ids: VoxCeleb1, CN-Celeb, VoxSRC."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from mqmha_jax.atomic import write_text
from mqmha_jax.data.ids import quote_id
from mqmha_jax.data.lists import read_models, read_trials, text_lines
from mqmha_jax.errors import UserError
from mqmha_jax.types import Trials

# Number of trials in each published file.
VOXCELEB1 = {
    37_720: "VoxCeleb1-O",
    37_611: "VoxCeleb1-O cleaned",
    581_480: "VoxCeleb1-E",
    579_818: "VoxCeleb1-E cleaned",
    552_536: "VoxCeleb1-H",
    550_894: "VoxCeleb1-H cleaned",
}
_VOXCELEB_ID = re.compile(r"(id\d{5})/[^/]+/\d{5}\.\w+")
_CNCELEB_ID = re.compile(r"(?:.*/)?(id\d{5})-[^/]+")
_ENROL = "-enroll"


class OfficialList(NamedTuple):
    """An official list over ids of utterances.

    Attributes:
      trials: its M trials.
      models: the utterances of each enrolment, if the list also has a protocol with several per enrolment.
      said: a description of the list, one sentence.
    """

    trials: Trials
    models: Mapping[str, Sequence[str]]
    said: str


def import_official(
    form: str, path: Path, *, enrol_list: Path | None = None, enrol_map: Path | None = None, suffix: str | None = None
) -> OfficialList:
    """Reads an official list.

    Args:
      form: "voxceleb", "cnceleb" or "voxsrc".
      path: the list as downloaded.
      enrol_list: CN-Celeb's list of the one file per enrolment; None: ``enroll.lst`` next to the list.
      enrol_map: CN-Celeb's map from that file to the utterances in it; None: ``enroll.map`` next to the list.
      suffix: ending of the audio files, such as ".flac" or "flac", if it differs from the list's.

    Returns:
      The trials over ids that are paths below the corpus (for CN-Celeb, below ``eval``, and below ``data`` in the map).

    Raises:
      UserError: the list cannot be read, has no labels, or its labels contradict the speakers in its ids; or the suffix
        is none.
    """
    if form == "cnceleb":
        trials, models, said = _read_cnceleb(path, enrol_list, enrol_map)
    else:
        trials, said = {"voxceleb": _read_voxceleb, "voxsrc": _read_voxsrc}[form](path)
        models = {}
    if suffix is not None:
        ending = _parse_suffix(suffix)

        def change_suffix(utterances: Iterable[str]) -> tuple[str, ...]:
            return tuple(str(PurePosixPath(utterance).with_suffix(ending)) for utterance in utterances)

        trials = trials._replace(enrol=change_suffix(trials.enrol), test=change_suffix(trials.test))
        models = dict(zip(change_suffix(models), map(change_suffix, models.values()), strict=True))
    num_targets = int(np.count_nonzero(trials.target))
    num_nontargets = len(trials.target) - num_targets
    return OfficialList(trials, models, f"{said}: {num_targets:,} target and {num_nontargets:,} nontarget trials.")


def _parse_suffix(text: str) -> str:
    """``flac`` or ``.flac``, as ``.flac``."""
    name = text.removeprefix(".")
    if not name or name.endswith(".") or "/" in name:
        raise UserError(f"--suffix {text!r}: not the ending of a file's name. Give one such as .flac.")
    return f".{name}"


def write_models(path: Path, models: Mapping[str, Sequence[str]]) -> None:
    """Writes the utterances of each model, lines ``model utterance ...``, for ``mqmha evaluate --enrol-map``."""
    lines = (" ".join(map(quote_id, (model, *utterances))) for model, utterances in models.items())
    write_text(path, "".join(f"{line}\n" for line in lines))


def _read_voxceleb(path: Path) -> tuple[Trials, str]:
    """Reads lines ``1 id10270/5r0dWxy17C8/00001.wav id10270/x6uYqmx31kE/00002.wav``; the folder is the speaker."""
    trials = read_trials(path)
    _check_speakers(path, trials, _VOXCELEB_ID, "id10270/5r0dWxy17C8/00001.wav")
    return trials, VOXCELEB1.get(
        len(trials.target), "VoxCeleb form, with another number of trials than the six lists of VoxCeleb1"
    )


def _read_cnceleb(
    path: Path, enrol_list: Path | None, enrol_map: Path | None
) -> tuple[Trials, dict[str, tuple[str, ...]], str]:
    """Reads lines ``id00800-enroll test/id00800-singing-01-001.wav 1``; enroll.lst has the file of id00800-enroll.

    That file joins several utterances, which enroll.map names. One list serves both protocols: without the map, the
    system embeds the file; with the map, its utterances.
    """
    trials = read_trials(path)
    _check_speakers(path, trials, _CNCELEB_ID, "id00800-enroll")
    names = dict.fromkeys(trials.enrol)
    file_of = _read_enrol_list(path.parent / "enroll.lst" if enrol_list is None else enrol_list)
    if missing := [name for name in names if name not in file_of]:
        raise UserError(
            f"{path}: enrolment {missing[0]!r} is not in the enrolment list. Give that list with --enrol-list FILE."
        )
    models = {}
    if enrol_map is None and (path.parent / "enroll.map").is_file():
        enrol_map = path.parent / "enroll.map"
    if enrol_map is not None:
        own = _read_enrol_map(enrol_map)
        if missing := [name for name in names if name not in own]:
            raise UserError(
                f"{enrol_map}: enrolment {missing[0]!r} of {path} is missing. Give the map that belongs to the list."
            )
        models = {file_of[name]: own[name] for name in names}
    return trials._replace(enrol=tuple(file_of[name] for name in trials.enrol)), models, "CN-Celeb"


def _read_enrol_map(path: Path) -> dict[str, tuple[str, ...]]:
    """Reads lines ``id00800-enroll id00800/singing-01-001.wav ...``; the first word may be the speaker only."""
    models = {}
    for name, utterances in read_models(path).items():
        speaker = name.removesuffix(_ENROL)
        strangers = [utterance for utterance in utterances if PurePosixPath(utterance).parent.name != speaker]
        if strangers:
            raise UserError(
                f"{path}: {name!r} is enrolled with {strangers[0]!r}, which is not an utterance of {speaker}, such as "
                f"{speaker}/singing-01-001.wav. The file is damaged: download it again."
            )
        models[speaker + _ENROL] = utterances
    return models


def _read_voxsrc(path: Path) -> tuple[Trials, str]:
    """Reads lines ``1 a.wav b.wav`` of a validation list; ids need not name the speaker."""
    if any(len(fields) == 2 for _, fields in itertools.islice(text_lines(path), 1)):
        raise UserError(
            f"{path}: two files per line and no label: this is a blind test list, which only the challenge can "
            "evaluate. Use its validation list."
        )
    return read_trials(path), "VoxSRC form"


def _read_enrol_list(path: Path) -> Mapping[str, str]:
    """Reads lines ``id00800-enroll enroll/id00800-enroll.wav``."""
    file_of: dict[str, str] = {}
    for line_number, fields in text_lines(path):
        if len(fields) != 2:
            raise UserError(f"{path}:{line_number}: {len(fields)} fields; a line holds 'enrolment file'.")
        name, file = fields
        if file_of.setdefault(name, file) != file:
            raise UserError(
                f"{path}:{line_number}: {name!r} has the files {file_of[name]!r} and {file!r}. The file is damaged: "
                "download it again."
            )
    return file_of


def _check_speakers(path: Path, trials: Trials, form: re.Pattern[str], example: str) -> None:
    for number, (enrol, test, target) in enumerate(zip(*trials, strict=True), start=1):
        speakers = [form.fullmatch(utterance) for utterance in (enrol, test)]
        if not all(speakers):
            wrong = enrol if speakers[0] is None else test
            raise UserError(f"{path}: trial {number}: {wrong!r} names no speaker; ids look like {example}.")
        one, other = (match[1] for match in speakers if match)
        if (one == other) != target:
            raise UserError(
                f"{path}: trial {number} is labelled {int(target)}, but its speakers are {one} and {other}. The file "
                "is damaged: download it again."
            )
