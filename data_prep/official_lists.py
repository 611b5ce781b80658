"""The field's official trial lists, checked and brought to ids of utterances: VoxCeleb1, CN-Celeb, VoxSRC."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from mqmha_jax.atomic import write_text
from mqmha_jax.data.lists import read_models, read_trials, text_lines
from mqmha_jax.errors import UserError
from mqmha_jax.types import Trials

# How many trials each of the published files has.
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
      models: where a list can be evaluated with several utterances enrolled at once, those of each enrolment side.
      said: a sentence on what it is.
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
      path: the list as it was downloaded.
      enrol_list: of CN-Celeb, the one file of each enrolment; None: ``enroll.lst`` beside the list.
      enrol_map: of CN-Celeb, the utterances that this file was joined from; None: ``enroll.map`` beside the list.
      suffix: ending of the audio files, where it is another than that in the list.

    Returns:
      The trials over ids that are paths below the corpus (of CN-Celeb: below ``eval``, and below ``data`` in the map).

    Raises:
      UserError: the list cannot be read, has no labels, or labels that contradict the speakers in its ids.
    """
    if form == "cnceleb":
        trials, models, said = _cnceleb(path, enrol_list, enrol_map)
    else:
        trials, said = {"voxceleb": _voxceleb, "voxsrc": _voxsrc}[form](path)
        models = {}
    if suffix is not None:

        def renamed(utterances: Iterable[str]) -> tuple[str, ...]:
            return tuple(str(PurePosixPath(utterance).with_suffix(suffix)) for utterance in utterances)

        trials = trials._replace(enrol=renamed(trials.enrol), test=renamed(trials.test))
        models = dict(zip(renamed(models), map(renamed, models.values()), strict=True))
    num_targets = int(np.count_nonzero(trials.target))
    num_nontargets = len(trials.target) - num_targets
    return OfficialList(trials, models, f"{said}: {num_targets:,} target and {num_nontargets:,} nontarget trials.")


def write_models(path: Path, models: Mapping[str, Sequence[str]]) -> None:
    """Write the utterances of each model as ``mqmha evaluate --enrol-map`` reads them: ``model utterance ...``."""
    write_text(path, "".join(f"{' '.join((model, *utterances))}\n" for model, utterances in models.items()))


def _voxceleb(path: Path) -> tuple[Trials, str]:
    """Lines ``1 id10270/5r0dWxy17C8/00001.wav id10270/x6uYqmx31kE/00002.wav``; the first folder is the speaker."""
    trials = read_trials(path)
    _check_speakers(path, trials, _VOXCELEB_ID, "id10270/5r0dWxy17C8/00001.wav")
    return trials, VOXCELEB1.get(len(trials.target), "VoxCeleb form, of another length than the six lists of VoxCeleb1")


def _cnceleb(
    path: Path, enrol_list: Path | None, enrol_map: Path | None
) -> tuple[Trials, dict[str, tuple[str, ...]], str]:
    """Lines ``id00800-enroll test/id00800-singing-01-001.wav 1``, where enroll.lst has the file of id00800-enroll.

    The file is several utterances in one, which enroll.map names. It stands for them in both protocols, so that one
    list serves both: by itself, the file is embedded; with the map, they are.
    """
    trials = read_trials(path)
    _check_speakers(path, trials, _CNCELEB_ID, "id00800-enroll")
    names = dict.fromkeys(trials.enrol)
    file_of = _enrolments(path.parent / "enroll.lst" if enrol_list is None else enrol_list)
    if missing := [name for name in names if name not in file_of]:
        raise UserError(
            f"{path}: enrolment {missing[0]!r} is not in the enrolment list; give it with --enrol-list FILE."
        )
    models = {}
    if enrol_map is None and (path.parent / "enroll.map").is_file():
        enrol_map = path.parent / "enroll.map"
    if enrol_map is not None:
        own = _mapped(enrol_map)
        if missing := [name for name in names if name not in own]:
            raise UserError(f"{enrol_map}: enrolment {missing[0]!r} of {path} is not in it; give the list's own map.")
        models = {file_of[name]: own[name] for name in names}
    return trials._replace(enrol=tuple(file_of[name] for name in trials.enrol)), models, "CN-Celeb"


def _mapped(path: Path) -> dict[str, tuple[str, ...]]:
    """Lines ``id00800-enroll id00800/singing-01-001.wav ...``; the speaker alone stands for its enrolment, too."""
    models = {}
    for name, utterances in read_models(path).items():
        speaker = name.removesuffix(_ENROL)
        strangers = [utterance for utterance in utterances if PurePosixPath(utterance).parent.name != speaker]
        if strangers:
            raise UserError(
                f"{path}: {name!r} is enrolled with {strangers[0]!r}; valid: utterances of {speaker}, such as "
                f"{speaker}/singing-01-001.wav. The file is damaged: download it again."
            )
        models[speaker + _ENROL] = utterances
    return models


def _voxsrc(path: Path) -> tuple[Trials, str]:
    """Lines ``1 a.wav b.wav`` as in the validation lists; ids need not tell the speaker. Blind lists have no labels."""
    if any(len(fields) == 2 for _, fields in itertools.islice(text_lines(path), 1)):
        raise UserError(
            f"{path}: two files a line and no label: a blind test list, which only the challenge can evaluate. "
            "Take its validation list."
        )
    return read_trials(path), "VoxSRC form"


def _enrolments(path: Path) -> Mapping[str, str]:
    """Lines ``id00800-enroll enroll/id00800-enroll.wav``."""
    file_of = {}
    for line_number, fields in text_lines(path):
        if len(fields) != 2:
            raise UserError(f"{path}:{line_number}: {len(fields)} fields; valid: 'enrolment file'.")
        file_of[fields[0]] = fields[1]
    return file_of


def _check_speakers(path: Path, trials: Trials, form: re.Pattern[str], example: str) -> None:
    for number, (enrol, test, target) in enumerate(zip(*trials, strict=True), start=1):
        speakers = [form.fullmatch(utterance) for utterance in (enrol, test)]
        if not all(speakers):
            wrong = enrol if speakers[0] is None else test
            raise UserError(f"{path}: trial {number}: {wrong!r} tells no speaker; valid: ids such as {example}.")
        one, other = (match[1] for match in speakers if match)
        if (one == other) != target:
            raise UserError(
                f"{path}: trial {number} is labelled {int(target)}, but its speakers are {one} and {other}; the file "
                "is damaged: download it again."
            )
