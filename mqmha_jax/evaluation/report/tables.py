"""Writes results as tables, files for other programs, pictures and an HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mqmha_jax.atomic import replacing, write_text
from mqmha_jax.data.ids import quote_id
from mqmha_jax.data.score_files import write_scores
from mqmha_jax.errors import UserError, count_noun, printable
from mqmha_jax.evaluation.metrics.bootstrap import FEWEST_SPEAKERS, MIN_SPEAKERS
from mqmha_jax.evaluation.metrics.results import ListEvaluation, Measured
from mqmha_jax.evaluation.report.output_files import (
    METRICS_FILE,
    REPORT_FILE,
    SPEAKERS_FILE,
    TABLES_FILE,
    list_named_files,
    name_picture,
    name_scores,
)
from mqmha_jax.evaluation.report.plots import draw_results
from mqmha_jax.evaluation.results import Evaluation
from mqmha_jax.file_hash import hash_file
from mqmha_jax.json_file import write_sealed_json
from mqmha_jax.results_directory import is_sealed
from mqmha_jax.text_table import align_table

FORMAT_VERSION = 2


def format_tables(lists: Sequence[ListEvaluation], *, mean: bool = True) -> str:
    """Formats a plain-text table for each list, one line per system, and the means over the lists.

    Args:
      lists: at least one.
      mean: include the means of the systems that every list has.

    Returns:
      Lines without a final newline: EER in per cent, costs normalised, Cllr in bits, 95 % intervals in brackets.
    """
    tables = [f"{_heading(part)}\n{align_table(_rows(part))}" for part in lists]
    if mean and len(lists) > 1:
        tables.append(f"mean over {len(lists)} lists\n{align_table(_mean_rows(lists))}")
    return "\n\n".join(tables)


def write_evaluation(
    directory: str | Path, evaluation: Evaluation, *, title: str = "", mean: bool = True, audio: Path | None = None
) -> None:
    """Writes everything about an evaluation; each file appears whole or not at all.

    Adds to the files of ``write_numbers``: ``results.txt`` with the tables, ``report.html`` with everything and
    ``results_LIST.png`` with the pictures.

    Args:
      directory: made if missing; earlier results in it are replaced, and those of other lists are removed.
      evaluation: results on one or more lists.
      title: what was evaluated.
      mean: as for ``format_tables``.
      audio: folder that holds each utterance's recording under its id as path, for players in the report.

    Raises:
      UserError: a file cannot be written, or two lists or systems would share one.
    """
    from mqmha_jax.evaluation.report.html.report import write_html_report

    directory, title = Path(directory), printable(title)  # which may be a path that is not UTF-8
    write_numbers(directory, evaluation, title=title)
    write_text(directory / TABLES_FILE, format_tables(evaluation.lists, mean=mean) + "\n")
    for part in evaluation.lists:
        with replacing(directory / name_picture(part.name)) as temporary:
            pictured = {system.name: (system.scores, part.trials.target) for system in part.systems}
            draw_results(pictured, temporary, ": ".join(filter(None, [title, part.name])))
    write_html_report(
        directory / REPORT_FILE,
        evaluation.lists,
        title=f"Evaluation of {title}" if title else "Evaluation",
        settings={**evaluation.settings, **{f"note {i}": note for i, note in enumerate(evaluation.notes, start=1)}},
        embeddings=evaluation.embeddings,
        utt2spk=evaluation.utt2spk or None,
        audio=audio,
    )


def write_numbers(directory: Path, evaluation: Evaluation, *, title: str = "") -> None:
    """Writes the files for other programs and for ``compare_files``.

    ``metrics.json`` holds the numbers and names the other files: ``scores_LIST_SYSTEM.txt`` has a line for each trial,
    ``enrol test score label`` with all digits of the score; ``utt2spk.txt`` has the known speakers.

    Args:
      directory: made if missing.
      evaluation: results on one or more lists.
      title: what was evaluated.

    Raises:
      UserError: as ``write_evaluation``.
    """
    files = _score_files(evaluation.lists)
    earlier = list_named_files(directory)
    named = dict.fromkeys(name for part in evaluation.lists for name in (*part.trials.enrol, *part.trials.test))
    in_lists = {name: evaluation.utt2spk[name] for name in named if name in evaluation.utt2spk}
    numbers = {
        "format_version": FORMAT_VERSION,
        "title": title,
        "settings": dict(evaluation.settings),
        "notes": list(evaluation.notes),
        "utt2spk": SPEAKERS_FILE if in_lists else None,
        "sha256_of_files": {},
        "lists": {part.name: _numbers(part, files) for part in evaluation.lists},
    }
    if not is_sealed(directory / METRICS_FILE):
        # Says whose the other files are, so that the command can run again if it is killed here.
        write_sealed_json(directory / METRICS_FILE, numbers)
    for part in evaluation.lists:
        for system in part.systems:
            write_scores(directory / files[part.name, system.name], part.trials, system.scores)
    if in_lists:
        lines = (f"{quote_id(name)} {quote_id(speaker)}\n" for name, speaker in in_lists.items())
        write_text(directory / SPEAKERS_FILE, "".join(lines))
    written = [*files.values(), *([SPEAKERS_FILE] if in_lists else [])]
    numbers["sha256_of_files"] = {name: hash_file(directory / name) for name in written}
    write_sealed_json(directory / METRICS_FILE, numbers)  # last, so that the files it names exist
    for name in earlier - list_named_files(directory):
        (directory / name).unlink(missing_ok=True)


def _heading(part: ListEvaluation) -> str:
    targets = int(np.count_nonzero(part.trials.target))
    heading = f"{part.name}: {targets:,} target and {len(part.trials.target) - targets:,} nontarget trials"
    if part.num_speakers is None:
        return f"{heading}, speakers unknown: no intervals"
    if part.num_speakers < FEWEST_SPEAKERS:
        return f"{heading}, {count_noun(part.num_speakers, 'speaker')}: too few for intervals"
    unreliable = "" if part.reliable else f"; below {MIN_SPEAKERS} speakers: interval unreliable"
    return f"{heading}, {part.num_speakers:,} speakers{unreliable}"


def _columns(lists: Sequence[ListEvaluation]) -> list[str]:
    return list(dict.fromkeys(name for part in lists for system in part.systems for name in system.metrics))


def _header(columns: Sequence[str]) -> list[str]:
    return ["system", *("EER %" if name == "EER" else name for name in columns)]


def _rows(part: ListEvaluation) -> list[list[str]]:
    columns = _columns([part])
    lines = [
        [
            system.name,
            *(_format_metric(name, system.metrics[name]) if name in system.metrics else "" for name in columns),
        ]
        for system in part.systems
    ]
    return [_header(columns), *lines]


def _mean_rows(lists: Sequence[ListEvaluation]) -> list[list[str]]:
    columns = _columns(lists)
    by_system: dict[str, list[Mapping[str, Measured]]] = {}
    for part in lists:
        for system in part.systems:
            by_system.setdefault(system.name, []).append(system.metrics)
    lines = []
    for name, measured in by_system.items():
        means = [
            _format_metric(
                column, Measured(float(np.mean([metrics[column].value for metrics in measured])), None, None)
            )
            if all(column in metrics for metrics in measured)
            else ""
            for column in columns
        ]
        if len(measured) == len(lists):
            lines.append([name, *means])
    return [_header(columns), *lines]


def _format_metric(name: str, measured: Measured) -> str:
    factor, digits = (100, 2) if name == "EER" else (1, 3)
    value, low, high = (None if number is None else f"{factor * number:.{digits}f}" for number in measured)
    return f"{value}" if low is None else f"{value} [{low}, {high}]"


def _numbers(part: ListEvaluation, files: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    targets = int(np.count_nonzero(part.trials.target))
    return {
        "targets": targets,
        "nontargets": len(part.trials.target) - targets,
        "speakers": part.num_speakers,
        "reliable": part.reliable,
        "systems": {
            system.name: {
                "scores": files[part.name, system.name],
                "calibrated": system.calibrated,
                "threshold": system.threshold,
                "metrics": {name: measured._asdict() for name, measured in system.metrics.items()},
            }
            for system in part.systems
        },
    }


def _score_files(lists: Sequence[ListEvaluation]) -> dict[tuple[str, str], str]:
    files: dict[tuple[str, str], str] = {}
    for part in lists:
        for system in part.systems:
            name = name_scores(part.name, system.name)
            if name in files.values():
                raise UserError(
                    f"Two sets of scores would both be written to {name}; rename a list or a file of scores."
                )
            files[part.name, system.name] = name
    return files


def check_file(directory: Path, name: str, saved: Mapping[str, Any]) -> Path:
    """Returns the path of a file that ``metrics.json`` names, if the file is unchanged.

    Args:
      directory: directory of the evaluation.
      name: name of the file.
      saved: content of ``metrics.json``.

    Raises:
      UserError: the file is missing or was changed.
    """
    path = directory / name
    try:
        found = hash_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}). Evaluate again.") from error
    if found != saved["sha256_of_files"].get(name):
        raise UserError(f"{path} differs from what 'mqmha evaluate' wrote. Restore it, or evaluate again.")
    return path
