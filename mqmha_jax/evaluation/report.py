"""Results as a table, as files that other programs read, and as a picture."""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.evaluate import P_TARGETS, TrialResult
from mqmha_jax.evaluation.plots import result_picture

THRESHOLD_FILE = "threshold.json"


def result_table(results: Sequence[TrialResult], *, mean: bool = True) -> str:
    """A plain-text table with one line for each list, and the mean over the lists where there are several.

    Args:
      results: of ``evaluate_trials``.
      mean: leave it out with False, where the results are of several systems.

    Returns:
      Lines without a final newline; EER in per cent, minDCF normalised, then counts.
    """
    header = ["list", "EER %", *(f"minDCF {p_target:g}" for p_target in P_TARGETS), "target", "nontarget", "speakers"]
    rows = [
        [
            result.name,
            *_rates(result.eer, [result.min_dcf[p_target] for p_target in P_TARGETS]),
            f"{result.num_targets:,}",
            f"{result.num_nontargets:,}",
            "-" if result.num_speakers is None else f"{result.num_speakers:,}",
        ]
        for result in results
    ]
    if mean and len(results) > 1:
        costs = [float(np.mean([result.min_dcf[p_target] for result in results])) for p_target in P_TARGETS]
        rows.append(["mean", *_rates(float(np.mean([result.eer for result in results])), costs), "", "", ""])
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in (header, *rows)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def write_results(directory: str | Path, results: Sequence[TrialResult], *, title: str = "", mean: bool = True) -> None:
    """Writes everything about an evaluation; each file appears whole or not at all.

    ``metrics.json`` holds the numbers, ``results.txt`` the table, ``results.png`` the picture, and ``scores_LIST.txt``
    one line ``enrol test score target`` for each trial (with all digits of the score).

    Args:
      directory: made if it is not there; earlier results in it are replaced.
      results: of ``evaluate_trials``, at least one.
      title: line above the picture.
      mean: as for ``result_table``.

    Raises:
      UserError: a file can not be written, or two lists would share one.
    """
    files: dict[str, Callable[[Path], object]] = {}
    for result in results:
        scores_file = f"scores_{re.sub(r'[^A-Za-z0-9._-]+', '-', result.name)}.txt"
        if scores_file in files:
            raise UserError(f"Two trial lists would both be written to {scores_file}; give them different names.")
        files[scores_file] = partial(_write_scores, result)
    picture = {result.name: (result.scores, result.trials.target) for result in results}
    files["results.png"] = lambda path: result_picture(picture, path, title)
    files["results.txt"] = lambda path: path.write_text(result_table(results, mean=mean) + "\n", encoding="utf-8")
    files["metrics.json"] = lambda path: _write_json(path, {result.name: _numbers(result) for result in results})
    for name, write in files.items():
        with _replacing(Path(directory) / name) as temporary:
            write(temporary)


def write_threshold(workdir: str | Path, result: TrialResult, *, step: int) -> None:
    """Writes ``threshold.json``, by which ``SpeakerEncoder.verify`` decides.

    Args:
      workdir: the run's directory.
      result: cosine scores after subtracting the mean, as ``verify`` makes them.
      step: how long the network was trained; the threshold of another step is never used.

    Raises:
      UserError: the file can not be written.
    """
    threshold = {
        "threshold": result.threshold,
        "list": result.name,
        "eer": result.eer,
        "speakers": result.num_speakers,
        "step": step,
    }
    with _replacing(Path(workdir) / THRESHOLD_FILE) as temporary:
        _write_json(temporary, threshold)


def _rates(eer: float, costs: Sequence[float]) -> list[str]:
    return [f"{100 * eer:.2f}", *(f"{cost:.3f}" for cost in costs)]


def _numbers(result: TrialResult) -> dict[str, Any]:
    return {
        "eer": result.eer,
        "min_dcf": {f"{p_target:g}": cost for p_target, cost in result.min_dcf.items()},
        "threshold": result.threshold,
        "targets": result.num_targets,
        "nontargets": result.num_nontargets,
        "speakers": result.num_speakers,
    }


def _write_scores(result: TrialResult, path: Path) -> None:
    trials = result.trials
    with path.open("w", encoding="utf-8") as file:
        for enrol, test, score, target in zip(trials.enrol, trials.test, result.scores, trials.target, strict=True):
            file.write(f"{enrol} {test} {score:.9g} {target:d}\n")  # nine digits bring a float32 back exactly


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name with the same ending; what was written there takes the place of the file when all went well."""
    temporary = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: can not be written ({error.strerror}); free some space or choose another directory. "
            "An earlier version of the file is left as it was."
        ) from error
