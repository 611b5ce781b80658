"""The field's official trial lists, checked and brought to ids of utterances: VoxCeleb1, CN-Celeb, VoxSRC."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from mqmha_jax.data.lists import read_trials, text_lines
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


def import_official(
    form: str, path: Path, *, enrol_list: Path | None = None, suffix: str | None = None
) -> tuple[Trials, str]:
    """Reads an official list.

    Args:
      form: "voxceleb", "cnceleb" or "voxsrc".
      path: the list as it was downloaded.
      enrol_list: of CN-Celeb, the file of each enrolment; None: ``enroll.lst`` beside the list.
      suffix: ending of the audio files, where it is another than that in the list.

    Returns:
      The trials over ids that are paths below the corpus, and a sentence on what they are.

    Raises:
      UserError: the list can not be read, has no labels, or labels that contradict the speakers in its ids.
    """
    trials, said = {"voxceleb": _voxceleb, "cnceleb": _cnceleb, "voxsrc": _voxsrc}[form](path, enrol_list)
    if suffix is not None:
        enrol, test = (tuple(str(PurePosixPath(u).with_suffix(suffix)) for u in side) for side in trials[:2])
        trials = trials._replace(enrol=enrol, test=test)
    num_targets = int(np.count_nonzero(trials.target))
    return trials, f"{said}: {num_targets:,} target and {len(trials.target) - num_targets:,} nontarget trials."


def _voxceleb(path: Path, _: Path | None) -> tuple[Trials, str]:
    """Lines ``1 id10270/5r0dWxy17C8/00001.wav id10270/x6uYqmx31kE/00002.wav``; the first folder is the speaker."""
    trials = read_trials(path)
    _check_speakers(path, trials, _VOXCELEB_ID, "id10270/5r0dWxy17C8/00001.wav")
    return trials, VOXCELEB1.get(len(trials.target), "VoxCeleb form, of another length than the six lists of VoxCeleb1")


def _cnceleb(path: Path, enrol_list: Path | None) -> tuple[Trials, str]:
    """Lines ``id00800-enroll test/id00800-singing-01-001.wav 1``, where enroll.lst has the file of id00800-enroll."""
    trials = read_trials(path)
    file_of = _enrolments(path.parent / "enroll.lst" if enrol_list is None else enrol_list)
    missing = [model for model in trials.enrol if model not in file_of]
    if missing:
        raise UserError(
            f"{path}: enrolment {missing[0]!r} is not in the enrolment list; give it with --enrol-list FILE."
        )
    _check_speakers(path, trials, _CNCELEB_ID, "id00800-enroll")
    return trials._replace(enrol=tuple(file_of[model] for model in trials.enrol)), "CN-Celeb"


def _voxsrc(path: Path, _: Path | None) -> tuple[Trials, str]:
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
