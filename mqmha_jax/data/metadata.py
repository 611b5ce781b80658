"""Facts about utterances other than their audio: the speaker, and columns such as session, gender or seconds."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int32

from mqmha_jax.data.csv_table import open_table
from mqmha_jax.data.ids import check_id, check_spellings, plain_id, split_fields
from mqmha_jax.data.lists import number_names, read_utt2spk
from mqmha_jax.data.shard_reader import FbankShards
from mqmha_jax.errors import UserError
from mqmha_jax.types import Trials

SECONDS = "seconds"
_KEYS = ("utterance", "path")
_SEVERAL = "several"


class Metadata(NamedTuple):
    """Facts about utterances (and about models that are enrolled with several of them), by their ids.

    Attributes:
      utt2spk: the speaker of each whose speaker is known.
      columns: column -> id -> value: seconds as numbers, everything else as text (sessions 1.1 and 1.10 are two).
    """

    utt2spk: Mapping[str, str]
    columns: Mapping[str, Mapping[str, str | float]]


NOTHING_KNOWN = Metadata({}, {})


class Column(NamedTuple):
    """A column of the metadata on both sides of M trials.

    Attributes:
      enrol: ``[M]`` of the enrolment sides: numbers, or positions among the words (4 bytes instead of a word).
      test: ``[M]`` of the test sides.
      words: the distinct values, ascending; None: they are numbers.
    """

    enrol: Float[np.ndarray, " M"] | Int32[np.ndarray, " M"]
    test: Float[np.ndarray, " M"] | Int32[np.ndarray, " M"]
    words: tuple[str, ...] | None

    def of(self, trial: int) -> tuple[str | float, str | float]:
        """The values on the two sides of one trial."""
        if self.words is None:
            return float(self.enrol[trial]), float(self.test[trial])
        return self.words[self.enrol[trial]], self.words[self.test[trial]]


def shard_metadata(shards: FbankShards) -> Metadata:
    """Returns speakers and columns of shards; ``seconds`` is the duration of the stored frames."""
    names = shards.utterances
    speakers = [shards.speakers[i] for i in shards.speaker]
    columns: dict[str, Mapping[str, str | float]] = {
        name: dict(zip(names, values.tolist(), strict=True)) for name, values in shards.attributes.items()
    }
    durations = shards.num_frames * (shards.spec.frame_shift_ms / 1000)
    columns[SECONDS] = dict(zip(names, durations.tolist(), strict=True))
    return Metadata(dict(zip(names, speakers, strict=True)), columns)


def read_metadata(path: str | Path, *, every_speaker: bool = False) -> Metadata:
    """Reads a CSV file, or Kaldi's ``utt2spk``; a header with a column of utterances marks a CSV file.

    Args:
      path: UTF-8; a CSV file has a header with a column ``utterance`` (or ``path``), and usually ``speaker``. An empty
        cell of ``speaker`` or of ``seconds`` means that it is unknown.
      every_speaker: refuse unknown speakers.

    Raises:
      UserError: the file cannot be read, has no column of utterances, or has a control character; or a line repeats an
        utterance, has the wrong number of values, has seconds that are no positive number, or lacks a speaker; or two
        speakers look the same.
    """
    path = Path(path)
    known = _read_file(path, every_speaker)
    check_spellings(dict.fromkeys(known.utt2spk.values()), f"speakers in {path}")
    return known


def _read_file(path: Path, every_speaker: bool) -> Metadata:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            is_table = {*_KEYS} & {name.strip() for name in next(csv.reader([first]), ())} or (
                "," in first and len(split_fields(first)) != 2
            )
            if not is_table:
                return Metadata(read_utt2spk(path), {})
            file.seek(0)
            return _read_table(path, open_table(file), every_speaker)
    except OSError as error:
        raise UserError(f"{path}: the metadata cannot be read ({error.strerror}).") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file or utt2spk in UTF-8 ({error}).") from error


def join_metadata(parts: Iterable[Metadata]) -> Metadata:
    """Joins the metadata of several sets of utterances; later values replace earlier ones, empty ones replace none."""
    utt2spk: dict[str, str] = {}
    columns: dict[str, dict[str, str | float]] = {}
    for part in parts:
        utt2spk |= part.utt2spk
        for name, values in part.columns.items():
            known = columns.setdefault(name, {})
            known |= {utterance: value for utterance, value in values.items() if value != "" or utterance not in known}
    return Metadata(utt2spk, columns)


def model_metadata(known: Metadata, models: Mapping[str, Sequence[str]]) -> Metadata:
    """Derives the metadata of models from their utterances: seconds add up, other values stay if all agree.

    The seconds of a model are unknown if those of one of its utterances are.

    Raises:
      UserError: a model has utterances of different speakers.
    """
    utt2spk: dict[str, str] = {}
    for model, utterances in models.items():
        speakers = {known.utt2spk[utterance] for utterance in utterances if utterance in known.utt2spk}
        if len(speakers) > 1:
            one, other = sorted(speakers)[:2]
            raise UserError(
                f"Model {model!r} is enrolled with utterances of {one!r} and {other!r}; a model has one speaker. "
                "Correct the map or the metadata."
            )
        if speakers:
            utt2spk[model] = speakers.pop()
    columns: dict[str, dict[str, str | float]] = {}
    for name, values in known.columns.items():
        of_model = columns[name] = {}
        for model, utterances in models.items():
            own = [values[utterance] for utterance in utterances if utterance in values]
            if name == SECONDS:
                if len(own) == len(utterances):
                    of_model[model] = sum(map(float, own))
            elif own:
                of_model[model] = own[0] if len(set(own)) == 1 else _SEVERAL
    return Metadata(utt2spk, columns)


def trial_attributes(trials: Trials, enrol: Metadata, test: Metadata) -> dict[str, Column]:
    """Looks up the columns of both sides of each trial.

    Args:
      trials: M trials.
      enrol: metadata of their enrolment sides.
      test: metadata of their test sides.

    Returns:
      Each column that has a value for every utterance of the list, and at least two different ones.
    """
    # One lookup for each utterance and a gather, not a lookup for each of millions of trials.
    (enrolled, (enrol_rows,)), (tested, (test_rows,)) = (number_names(side) for side in (trials.enrol, trials.test))
    attributes = {}
    for name in test.columns:
        try:
            one = [enrol.columns.get(name, {})[utterance] for utterance in enrolled]
            other = [test.columns[name][utterance] for utterance in tested]
        except KeyError:  # some utterance has no value
            continue
        if len({*one, *other}) == 1:
            continue
        if (numbers := _as_numbers([*one, *other])) is not None:
            attributes[name] = Column(numbers[: len(one)][enrol_rows], numbers[len(one) :][test_rows], None)
        else:
            words, (one_codes, other_codes) = number_names([str(v) for v in one], [str(v) for v in other])
            attributes[name] = Column(one_codes[enrol_rows], other_codes[test_rows], words)
    return attributes


def _read_table(path: Path, reader: "csv.DictReader[str]", every_speaker: bool) -> Metadata:
    header = reader.fieldnames or ()
    key = next((name for name in _KEYS if name in header), None)
    if key is None:
        raise UserError(f"{path}:1: no column {' or '.join(_KEYS)}; the header is {','.join(header)}.")
    columns = [name for name in header if name]  # spreadsheets write empty columns without a name
    for name in columns:
        check_id(name, f"{path}:1: the column")
    utterances: dict[str, None] = {}
    values: dict[str, list[str]] = {name: [] for name in columns if name != key}
    seconds: dict[str, str | float] = {}  # without the unknown: they replace no duration that shards know
    for row in reader:
        if None in row or None in row.values():
            raise UserError(
                f"{path}:{reader.line_num}: the header has {len(header)} columns, this line another number."
            )
        where = f"{path}:{reader.line_num}"
        utterance = check_id(plain_id(row.pop(key)), f"{where}: the utterance")
        if utterance in utterances:
            raise UserError(f"{where}: utterance {utterance!r} is listed twice; give each one line.")
        utterances[utterance] = None
        if every_speaker and not row.get("speaker", utterance).strip():
            raise UserError(f"{where}: utterance {utterance!r} has no speaker. Fill in the cell, or remove the line.")
        for name in values:
            value = row[name].strip()  # blanks around a session do not make it another one
            if name == "speaker" and value:
                value = row[name]  # an id, which keeps its blanks
            if name == SECONDS and value:
                seconds[utterance] = _read_seconds(value, where)
            values[name].append(value and check_id(value, f"{where}: {name}"))
    if not utterances:
        raise UserError(f"{path}: the table has a header but no lines; give one for each utterance.")
    speakers = values.pop("speaker", [""] * len(utterances))
    # Without the unknown: they are no speaker of the name '', and do not replace what shards know.
    utt2spk = {utterance: speaker for utterance, speaker in zip(utterances, speakers, strict=True) if speaker}
    known: dict[str, Mapping[str, str | float]] = {
        name: seconds if name == SECONDS else dict(zip(utterances, column, strict=True))
        for name, column in values.items()
    }
    return Metadata(utt2spk, known)


def _read_seconds(value: str, where: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:  # false for NaN
        raise UserError(
            f"{where}: {SECONDS} is {value!r}; valid: a positive number such as 3.5, or an empty cell if the duration "
            "is unknown. Correct the cell, or give the column another name."
        )
    return seconds


def _as_numbers(values: Sequence[str | float]) -> Float[np.ndarray, " n"] | None:
    """The values as numbers; None if they are names: words, whole numbers, or texts such as 1.1 and 1.10."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    if all(isinstance(value, float) for value in values):
        return numbers
    measured = any("." in str(value) for value in values) and bool(np.isfinite(numbers).all())
    return numbers if measured and len(np.unique(numbers)) == len({*values}) else None
