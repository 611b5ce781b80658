"""Trial lists and speaker lists: text files, one entry a line, fields separated by white space.

An id that contains white space is written in quotation marks (``ids.py``).
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64

from mqmha_jax.atomic import write_text
from mqmha_jax.data.ids import PlainIds, check_id, other_spelling, plain_id, quote_id, split_fields
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.types import Trials

_FORMS = "'1 enrol test' or '0 enrol test' (VoxCeleb), 'enrol test target' or 'enrol test nontarget' (Kaldi)"
_BITS = {"1": True, "0": False}
_WORDS = {"target": True, "nontarget": False}


def read_trials(path: str | Path) -> Trials:
    """Reads a trial list in VoxCeleb's form (``1 a b``), Kaldi's (``a b target``) or CN-Celeb's (``a b 1``).

    The first line decides the form, which all lines must have; blank lines are skipped.

    Args:
      path: text file in UTF-8.

    Returns:
      The M trials in the order of the file; equal ids are one string object, so 10 million trials take about 170 MB.

    Raises:
      UserError: the file cannot be read or holds no trial, or a line does not have the form of the first.
    """
    enrol: list[str] = []
    test: list[str] = []
    target = bytearray()
    ids = PlainIds()
    label_position, labels = 0, _BITS
    for line_number, fields in text_lines(path):
        if len(fields) != 3:
            raise UserError(f"{path}:{line_number}: {len(fields)} fields, but a trial has three; valid: {_FORMS}.")
        if not target:
            label_position, labels = _trial_form(path, line_number, fields)
        label = labels.get(fields.pop(label_position))
        if label is None:
            raise UserError(
                f"{path}:{line_number}: no label ({' or '.join(labels)}) in field {label_position + 1}, "
                "where the lines before have one; give all lines the same form."
            )
        enrol.append(ids[fields[0]])
        test.append(ids[fields[1]])
        target.append(label)
    if not target:
        raise UserError(f"{path}: the trial list is empty; valid lines: {_FORMS}.")
    return Trials(tuple(enrol), tuple(test), np.frombuffer(target, np.bool_))


def write_trials(path: Path, trials: Trials) -> None:
    """Writes a list in VoxCeleb's form, ``1 enrol test`` for a target and ``0 enrol test`` for a nontarget.

    Raises:
      UserError: the file cannot be written.
    """
    rows = zip(trials.enrol, trials.test, trials.target.tolist(), strict=True)
    write_text(path, "".join(f"{int(target)} {quote_id(a)} {quote_id(b)}\n" for a, b, target in rows))


def read_utt2spk(path: str | Path) -> dict[str, str]:
    """Reads which speaker each utterance belongs to, in Kaldi's form ``utterance speaker``.

    Args:
      path: text file in UTF-8.

    Returns:
      Speaker of each utterance id, in the order of the file.

    Raises:
      UserError: the file cannot be read or is empty, a line does not have two fields, or an utterance appears twice.
    """
    speaker_of: dict[str, str] = {}
    for line_number, fields in text_lines(path):
        if len(fields) != 2:
            raise UserError(f"{path}:{line_number}: {len(fields)} fields; valid: 'utterance speaker'.")
        utterance, speaker = plain_id(fields[0]), fields[1]
        if utterance in speaker_of:
            raise UserError(f"{path}:{line_number}: utterance {utterance!r} is listed twice; give each one line.")
        speaker_of[utterance] = speaker
    if not speaker_of:
        raise UserError(f"{path}: the list is empty; valid lines: 'utterance speaker'.")
    return speaker_of


def read_models(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Reads which utterances enrol each model, in Kaldi's form of ``spk2utt``: ``model utterance utterance ...``.

    Args:
      path: text file in UTF-8, one model a line.

    Returns:
      Utterances of each model, in the order of the file.

    Raises:
      UserError: the file cannot be read or is empty, a model has no utterance, appears twice or has one twice.
    """
    models: dict[str, tuple[str, ...]] = {}
    for line_number, fields in text_lines(path):
        model, *utterances = map(plain_id, fields)
        if not utterances:
            raise UserError(f"{path}:{line_number}: model {model!r} has no utterances; valid: 'model utterance ...'.")
        if model in models:
            raise UserError(f"{path}:{line_number}: model {model!r} is listed twice; give each one line.")
        if len(set(utterances)) < len(utterances):
            raise UserError(f"{path}:{line_number}: model {model!r} has an utterance twice; name each one once.")
        models[model] = tuple(utterances)
    if not models:
        raise UserError(f"{path}: the list is empty; valid lines: 'model utterance utterance ...'.")
    return models


def check_trials(
    trials: Trials,
    known_utterances: Iterable[str],
    *,
    known_models: Iterable[str] | None = None,
    name: str = "trial list",
) -> list[str]:
    """Refuses a list that cannot be evaluated; returns remarks on what looks unintended in a list that can.

    Args:
      trials: M trials.
      known_utterances: ids of the utterances that have embeddings or fbank.
      known_models: names that the enrolment sides use instead, if models have several utterances.
      name: what to call the list in messages, e.g. its path.

    Returns:
      A sentence on trials that repeat an earlier one (each counts as often as it is listed) and one on trials of an
      utterance with itself; usually none.

    Raises:
      UserError: an utterance is unknown, the list has only target or only nontarget trials, or it labels two trials of
        the same utterances differently.
    """
    num_targets = int(np.count_nonzero(trials.target))
    num_trials = len(trials.target)
    if num_targets in (0, num_trials):
        kind, missing = ("target", "nontarget") if num_targets else ("nontarget", "target")
        raise UserError(
            f"{name}: only {kind} trials ({num_trials}); error rates need both classes: add {missing} trials."
        )
    utterances = list(known_utterances)
    models = None if known_models is None else list(known_models)
    enrol, test = trial_positions(trials, utterances, models=models, name=name)
    symmetric = known_models is None
    _check_labels(trials, enrol, test, symmetric=symmetric, name=name)
    notes = []
    _, first, again = np.unique(_pair(enrol, test), return_index=True, return_inverse=True)
    if repeats := num_trials - len(first):
        repeat = int(np.flatnonzero(first[again] != np.arange(num_trials))[0])
        notes.append(
            f"{name}: {repeats} of {num_trials} trials repeat an earlier one, first {_quote_trial(trials, repeat)}; "
            "each counts as often as it is listed."
        )
    if symmetric and (with_itself := int(np.count_nonzero(enrol == test))):
        notes.append(f"{name}: an utterance is compared with itself in {count_noun(with_itself, 'trial')}.")
    return notes


def trial_positions(
    trials: Trials, utterances: Sequence[str], *, models: Sequence[str] | None = None, name: str = "trial list"
) -> tuple[Int32[np.ndarray, " M"], Int32[np.ndarray, " M"]]:
    """Finds the positions of the two sides of each trial.

    Args:
      trials: M trials.
      utterances: N ids, each once.
      models: R names, each once, that the enrolment sides use; None: these name utterances, too.
      name: what to call the list in messages, e.g. its path.

    Returns:
      Indices of the enrolment sides into ``models`` (or ``utterances``) and of the test sides into ``utterances``,
      ``[M]`` each.

    Raises:
      UserError: a trial names an unknown utterance or model, or the sides differ in number.
    """
    if not len(trials.enrol) == len(trials.test) == len(trials.target):
        raise UserError(
            f"{name}: {len(trials.enrol)} enrolment sides, {len(trials.test)} test sides and {len(trials.target)} "
            "labels; valid: one of each for every trial."
        )
    if models is None:
        enrol, test = _find_positions(utterances, trials.enrol, trials.test, name=name)
    else:
        (enrol,) = _find_positions(models, trials.enrol, name=f"{name}, enrolment sides")
        (test,) = _find_positions(utterances, trials.test, name=f"{name}, test sides")
    return enrol, test


def number_names(*sides: Sequence[str]) -> tuple[tuple[str, ...], list[Int32[np.ndarray, " M"]]]:
    """Numbers the distinct names on the sides of trials; hashing takes a fraction of the time of sorting them all.

    Args:
      sides: M names each, e.g. the speakers of the enrolment and of the test sides.

    Returns:
      The distinct names, ascending, and the position of each side's names among them, ``[M]`` each.
    """
    names = tuple(sorted({*chain(*sides)}))
    position = {name: i for i, name in enumerate(names)}
    return names, [np.fromiter(map(position.__getitem__, side), np.int32, len(side)) for side in sides]


def text_lines(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yields number (from 1) and fields of every line that is not blank; skips a byte-order mark.

    Raises:
      UserError: the file cannot be read, is not UTF-8 text, or has a field that cannot be an id.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line_number, line in enumerate(file, start=1):
                if fields := split_fields(line):
                    # Rare, and lists have millions of lines. Only fields in quotation marks can be empty or blank.
                    if '"' in line or not "".join(fields).isprintable():
                        for field in fields:
                            check_id(field, f"{path}:{line_number}: the field")
                    yield line_number, fields
    except OSError as error:
        raise UserError(f"{path}: the list cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8 ({error.reason}); valid lines are plain text.") from error


def _find_positions(known: Sequence[str], *sides: Sequence[str], name: str) -> list[Int32[np.ndarray, " M"]]:
    position = {utterance: i for i, utterance in enumerate(known)}
    try:
        return [np.fromiter(map(position.__getitem__, side), np.int32, len(side)) for side in sides]
    except KeyError:
        raise _unknown_utterances(name, sides, position) from None


def _pair(one: Int32[np.ndarray, " M"], other: Int32[np.ndarray, " M"]) -> Int64[np.ndarray, " M"]:
    """Packs each pair of positions into one number."""
    return (one.astype(np.int64) << 32) + other


def _check_labels(
    trials: Trials, enrol: Int32[np.ndarray, " M"], test: Int32[np.ndarray, " M"], *, symmetric: bool, name: str
) -> None:
    """Refuses two labels for one pair. For two utterances their order does not matter; for a model and one it does."""
    one, other = (np.minimum(enrol, test), np.maximum(enrol, test)) if symmetric else (enrol, test)
    _, first, group = np.unique(_pair(one, other), return_index=True, return_inverse=True)
    differing = np.flatnonzero(trials.target != trials.target[first][group])
    if differing.size:
        trial = int(differing[0])
        earlier = int(first[group[trial]])
        raise UserError(
            f"{name}: trial {_quote_trial(trials, trial)} is labelled {_label(trials, trial)}, but trial {earlier + 1} "
            f"has the same pair and is labelled {_label(trials, earlier)} ({differing.size} such trials); correct the "
            "list."
        )


def _quote_trial(trials: Trials, index: int) -> str:
    return f"'{trials.enrol[index]} {trials.test[index]}' (number {index + 1})"


def _label(trials: Trials, index: int) -> str:
    return "target" if trials.target[index] else "nontarget"


def _unknown_utterances(name: str, sides: Sequence[Sequence[str]], known: Mapping[str, int]) -> UserError:
    """Makes the error that names the first few unknown utterances, and the known id closest to the first."""
    first_trial: dict[str, int] = {}
    for number, named in enumerate(zip(*sides, strict=True), start=1):
        for utterance in named:
            if utterance not in known:
                first_trial.setdefault(utterance, number)
    first_three = ", ".join(f"{utterance!r} (trial {number})" for utterance, number in list(first_trial.items())[:3])
    more = " and more" if len(first_trial) > 3 else ""
    first = next(iter(first_trial))
    if same := other_spelling(first, known):
        hint = (
            f" The first is known in another spelling that looks the same: {same!a} in place of {first!a}; write both "
            "alike."
        )
    else:
        nearest = difflib.get_close_matches(first, known, n=1)
        hint = f" The known id nearest to the first is {nearest[0]!r}." if nearest else ""
    return UserError(
        f"{name}: its trials name {count_noun(len(first_trial), 'unknown utterance')}: {first_three}{more}.{hint} "
        f"Valid: the ids of the {len(known)} utterances at hand; add the missing ones or remove their trials."
    )


def _trial_form(path: str | Path, line_number: int, fields: list[str]) -> tuple[int, dict[str, bool]]:
    """Position and words of the label. Words come first: a Kaldi speaker may be called "1"."""
    if fields[2] in _WORDS:
        return 2, _WORDS
    if fields[0] in _BITS:
        return 0, _BITS
    if fields[2] in _BITS:
        return 2, _BITS
    raise UserError(f"{path}:{line_number}: no label among {' '.join(fields)!r}; valid: {_FORMS}.")
