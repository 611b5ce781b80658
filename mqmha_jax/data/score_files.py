"""Score files: reads those of other programs, and reads and writes our own."""

from array import array
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from mqmha_jax.atomic import write_text
from mqmha_jax.data.ids import PlainIds, quote_id
from mqmha_jax.data.lists import text_lines
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.types import Trials

_FORMS = (
    "'enrol test score' (Kaldi), the same with a label after it (1 or 0, target or nontarget), or only 'score' in the "
    "order of the list"
)
_LABELS = {"1": True, "0": False, "target": True, "nontarget": False}


def read_scores(path: str | Path, trials: Trials) -> Float64[np.ndarray, " M"]:
    """Reads the scores of a trial list. The file may have any order and hold other pairs.

    Args:
      path: text file in UTF-8, lines ``enrol test score``, ``enrol test score label`` or ``score``; one form for all.
        Lines with one field must match the trials in number and order.
      trials: M trials.

    Returns:
      ``[M]`` scores in the order of the trials.

    Raises:
      UserError: the file cannot be read, a line has another form or no finite number, a pair has two different
        scores or labels, or a trial has no score or another label.
    """
    scores: array[float] = array("d")
    lines: array[int] = array("q")
    pairs: list[tuple[str, str]] = []
    labels = bytearray()
    ids = PlainIds()
    num_fields = 0
    for line_number, fields in text_lines(path):
        num_fields = num_fields or len(fields)
        if len(fields) != num_fields or num_fields not in (1, 3, 4):
            raise UserError(f"{path}:{line_number}: {len(fields)} fields; valid on all lines: {_FORMS}.")
        scores.append(_parse_score(path, line_number, fields[0] if num_fields == 1 else fields[2]))
        if num_fields > 1:
            lines.append(line_number)
            pairs.append((ids[fields[0]], ids[fields[1]]))
        if num_fields == 4:
            labels.append(_parse_label(path, line_number, fields))
    if not scores:
        raise UserError(f"{path}: the file of scores is empty; valid lines: {_FORMS}.")
    if num_fields == 1:
        if len(scores) != len(trials.target):
            raise UserError(
                f"{path}: {count_noun(len(scores), 'score')} for {count_noun(len(trials.target), 'trial')}; a file "
                "without ids needs one score per trial, in the order of the list. Name the pairs: 'enrol test score'."
            )
        return np.array(scores)
    rows = _find_rows(path, _number_pairs(path, pairs, scores, labels, lines), trials)
    if labels:
        differing = np.flatnonzero(np.frombuffer(labels, np.bool_)[rows] != trials.target)
        if differing.size:
            row = rows[int(differing[0])]
            raise UserError(
                f"{path}:{lines[row]}: '{' '.join(pairs[row])}' has the label {labels[row]}, but the trial list says "
                f"{int(trials.target[differing[0]])}; labels differ in {count_noun(differing.size, 'trial')}. Give the "
                "list that was scored."
            )
    return np.array(scores)[rows]


def read_scored_trials(path: str | Path) -> tuple[Trials, Float64[np.ndarray, " M"]]:
    """Reads trials and their scores, as ``write_scores`` writes them.

    Args:
      path: text file in UTF-8, lines ``enrol test score label``.

    Returns:
      The M trials and ``[M]`` scores.

    Raises:
      UserError: the file cannot be read or is empty, or a line has another form.
    """
    enrol, test, target = [], [], []
    scores: array[float] = array("d")
    ids = PlainIds()
    for line_number, fields in text_lines(path):
        target.append(_parse_label(path, line_number, fields))
        enrol.append(ids[fields[0]])
        test.append(ids[fields[1]])
        scores.append(_parse_score(path, line_number, fields[2]))
    if not target:
        raise UserError(f"{path}: the file of scores is empty; valid lines: 'enrol test score label'.")
    return Trials(tuple(enrol), tuple(test), np.array(target)), np.array(scores)


def write_scores(path: Path, trials: Trials, scores: Float[np.ndarray, " M"]) -> None:
    """Writes lines ``enrol test score label``, with all digits of the scores.

    Raises:
      UserError: the file cannot be written.
    """
    digits = 9 if scores.dtype == np.float32 else 17  # restore the exact number
    rows = zip(trials.enrol, trials.test, scores.tolist(), trials.target.tolist(), strict=True)
    lines = (f"{quote_id(a)} {quote_id(b)} {score:.{digits}g} {label:d}\n" for a, b, score, label in rows)
    write_text(path, "".join(lines))


def _parse_label(path: str | Path, line_number: int, fields: list[str]) -> bool:
    if len(fields) != 4 or fields[3] not in _LABELS:
        raise UserError(
            f"{path}:{line_number}: {' '.join(fields)!r}; valid: 'enrol test score label', label 1 or 0, or target or "
            "nontarget."
        )
    return _LABELS[fields[3]]


def _parse_score(path: str | Path, line_number: int, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        raise UserError(f"{path}:{line_number}: {text!r} is not a number; valid: {_FORMS}.") from None
    if not np.isfinite(score):
        raise UserError(
            f"{path}:{line_number}: the score is {text}; valid: finite numbers. Check the program that wrote them."
        )
    return score


def _number_pairs(
    path: str | Path, pairs: list[tuple[str, str]], scores: "array[float]", labels: bytearray, lines: "array[int]"
) -> dict[tuple[str, str], int]:
    """Maps each pair to its row; a repeated pair must have the same score and the same label, if there are labels."""
    row: dict[tuple[str, str], int] = {}
    for i, pair in enumerate(pairs):
        earlier = row.setdefault(pair, i)
        if scores[earlier] != scores[i]:
            raise UserError(
                f"{path}:{lines[i]}: '{' '.join(pair)}' has the score {scores[i]:g}, but {scores[earlier]:g} in line "
                f"{lines[earlier]}; keep one of them."
            )
        if labels and labels[earlier] != labels[i]:
            raise UserError(
                f"{path}:{lines[i]}: '{' '.join(pair)}' has the label {labels[i]}, but {labels[earlier]} in line "
                f"{lines[earlier]}; keep the right one."
            )
    return row


def _find_rows(path: str | Path, row: dict[tuple[str, str], int], trials: Trials) -> list[int]:
    """Finds the row of each trial, and names trials without one."""
    rows = [row.get(pair, -1) for pair in zip(trials.enrol, trials.test, strict=True)]
    if missing := rows.count(-1):
        trial = rows.index(-1)
        one, other = trials.enrol[trial], trials.test[trial]
        hint = " (the file has the pair the other way round)" if (other, one) in row else ""
        raise UserError(
            f"{path}: no score for {missing} of {count_noun(len(rows), 'trial')}, first '{one} {other}' "
            f"(trial {trial + 1}){hint}; add their lines, or evaluate another list."
        )
    return rows
