"""Reads scores and logs of the finished runs of a study as arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from mqmha_jax.data.lists import number_names, read_utt2spk
from mqmha_jax.data.score_files import read_scored_trials, read_scores
from mqmha_jax.evaluation.report.output_files import METRICS_FILE
from mqmha_jax.evaluation.scoring.systems import COSINE
from mqmha_jax.json_file import read_json
from mqmha_jax.runs.log_lines import read_log
from mqmha_jax.study.runs import EVALUATION, Run


class ListScores(NamedTuple):
    """Scores of all runs on one list.

    Attributes:
      name: name of the list.
      target: ``[M]``, true for trials of the same speaker.
      enrol_speaker: number of the speaker on the enrolment side of each trial, ``[M]``.
      test_speaker: number of the speaker on the test side of each trial, ``[M]``.
      scores: cell -> ``[n, M]``, a row for each finished seed.
    """

    name: str
    target: Bool[np.ndarray, " M"]
    enrol_speaker: Int[np.ndarray, " M"]
    test_speaker: Int[np.ndarray, " M"]
    scores: Mapping[str, Float64[np.ndarray, "n M"]]

    @property
    def num_speakers(self) -> int:
        """Number of speakers of the list."""
        return len({*self.enrol_speaker.tolist(), *self.test_speaker.tolist()})


def read_list(name: str, runs: Sequence[Run]) -> ListScores:
    """Reads the scores of finished runs on one list.

    Args:
      name: name of the list.
      runs: finished runs, at least one.

    Raises:
      UserError: a file cannot be read, or a run's trials differ from those of the first.
    """
    trials, _ = read_scored_trials(_scores_file(runs[0], name))
    utt2spk = read_utt2spk(runs[0].workdir / EVALUATION / _metrics(runs[0])["utt2spk"])
    _, (enrol, test) = number_names([utt2spk[u] for u in trials.enrol], [utt2spk[u] for u in trials.test])
    rows: dict[str, list[np.ndarray]] = {}
    for run in runs:
        rows.setdefault(run.cell.name, []).append(read_scores(_scores_file(run, name), trials))
    return ListScores(name, trials.target, enrol, test, {cell: np.stack(own) for cell, own in rows.items()})


def read_training_curves(runs: Sequence[Run]) -> dict[str, dict[str, list[tuple[np.ndarray, np.ndarray]]]]:
    """Reads the measurements of training from the logs.

    Args:
      runs: runs to read.

    Returns:
      measurement -> cell -> steps ``[n]`` and values ``[n]`` of each run.
    """
    curves: dict[str, dict[str, list[tuple[np.ndarray, np.ndarray]]]] = {}
    for run in runs:
        lines = [line for line in read_log(run.workdir) if line["kind"] == "train"]
        for name in dict.fromkeys(name for line in lines for name in line):
            points = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), (int, float))]
            if points:
                steps, values = np.array(points, np.float64).T
                curves.setdefault(name, {}).setdefault(run.cell.name, []).append((steps, values))
    return curves


def read_training_minutes(run: Run) -> float:
    """Returns the wall time from the first line of the log to the last, interruptions included."""
    times = [line["time"] for line in read_log(run.workdir)]
    return (times[-1] - times[0]) / 60 if times else 0.0


def _metrics(run: Run) -> dict[str, Any]:
    path = run.workdir / EVALUATION / METRICS_FILE
    return read_json(path, dict, advice="Delete it, and the same command evaluates again.")


def _scores_file(run: Run, name: str) -> Path:
    return run.workdir / EVALUATION / _metrics(run)["lists"][name]["systems"][COSINE]["scores"]
