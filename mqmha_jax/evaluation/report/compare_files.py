"""``mqmha compare``: compares evaluations on disk, list by list, in plain words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from mqmha_jax.data.lists import read_utt2spk
from mqmha_jax.data.score_files import read_scored_trials, read_scores
from mqmha_jax.errors import UserError, count_noun, unknown_name
from mqmha_jax.evaluation.metrics.bootstrap import MIN_SPEAKERS, trial_speakers
from mqmha_jax.evaluation.metrics.compare import Comparison, compare_systems
from mqmha_jax.evaluation.report.output_files import METRICS_FILE
from mqmha_jax.evaluation.report.tables import FORMAT_VERSION, check_file
from mqmha_jax.json_file import read_sealed_json
from mqmha_jax.types import Trials

_TITLES = {"eer": "EER %", "min_dcf_0.01": "minDCF 0.01"}
_SURE = 0.95


class SystemFile(NamedTuple):
    """A system in an evaluation on disk.

    Attributes:
      path: ``metrics.json``, or the directory that holds it.
      system: name of the system in that file; None: the first.
    """

    path: Path
    system: str | None = None


class ListComparison(NamedTuple):
    """System B compared with system A on one list.

    Attributes:
      name: name of the list.
      metrics: name of each metric to its comparison.
    """

    name: str
    metrics: dict[str, Comparison]


def compare_files(
    a: Sequence[SystemFile], b: Sequence[SystemFile], *, replicates: int = 1000, seed: int = 0
) -> list[ListComparison]:
    """Compares two systems, each trained with one or more seeds, on the lists that all files have in common.

    Args:
      a: evaluations of system A, one for each seed.
      b: evaluations of system B.
      replicates: number of resamples of the speakers.
      seed: seed of the resamples.

    Returns:
      One comparison for each list in common.

    Raises:
      UserError: a file cannot be read, the files have no list in common, or the trials of a list differ.
    """
    files = [_Evaluation(file) for file in (*a, *b)]
    common = [name for name in files[0].lists if all(name in file.lists for file in files)]
    if not common:
        each = "; ".join(f"{file.path}: {', '.join(file.lists)}" for file in files)
        raise UserError(f"The evaluations have no list in common ({each}); evaluate both on the same lists.")
    comparisons = []
    for name in common:
        trials, first = read_scored_trials(files[0].scores_path(name))
        scores = np.stack([first, *(file.scores(name, trials) for file in files[1:])])
        enrol, test = files[0].speakers(trials)
        metrics = compare_systems(
            scores[: len(a)], scores[len(a) :], trials.target, enrol, test, replicates=replicates, seed=seed
        )
        comparisons.append(ListComparison(name, metrics))
    return comparisons


def format_comparisons(comparisons: Sequence[ListComparison], a: str, b: str) -> str:
    """Describes comparisons for readers who do not know what a bootstrap is.

    Args:
      comparisons: result of ``compare_files``.
      a: name of system A.
      b: name of system B.

    Returns:
      Lines without a final newline.
    """
    lines = [f"A: {a}", f"B: {b}"]
    for name, metrics in comparisons:
        num_speakers = next(iter(metrics.values())).num_speakers
        unreliable = "" if num_speakers >= MIN_SPEAKERS else f"; below {MIN_SPEAKERS}: interval unreliable"
        lines += ["", f"{name}: {count_noun(num_speakers, 'speaker')}{unreliable}"]
        for metric, comparison in metrics.items():
            factor, digits = (100, 2) if metric == "eer" else (1, 3)
            numbers = (comparison.a, comparison.b, comparison.difference, *comparison.interval)
            one, other, difference, low, high = (f"{factor * number:.{digits}f}" for number in numbers)
            lines.append(
                f"  {_TITLES[metric]}: A {one}, B {other}; B - A = {difference} [{low}, {high}], "
                f"p = {comparison.p_value:.3f}"
            )
            lines.append(f"    {describe_verdict(comparison)}")
    return "\n".join(lines)


def describe_verdict(comparison: Comparison) -> str:
    """Says in one sentence whether B is better than A, and how sure that is."""
    share = comparison.probability_b_better
    likelier, sure = ("B", share) if share >= 0.5 else ("A", 1 - share)
    low, high = comparison.interval
    resamples = f"{likelier} is better in {sure:.0%} of the resamples"
    if low <= 0 <= high:
        few = "" if comparison.reliable else ", which has few speakers,"
        return f"Not distinguishable: this list{few} shows no clear difference between A and B; {resamples}."
    if not comparison.reliable:
        return f"Too few speakers for a verdict; {resamples}."
    better, worse = ("B", "A") if comparison.difference < 0 else ("A", "B")
    return (
        f"{better} is better than {worse}: the {_SURE:.0%} interval excludes 0; better in {sure:.0%} of the resamples."
    )


class _Evaluation:
    """``metrics.json`` and the files that it names."""

    def __init__(self, file: SystemFile) -> None:
        self.path = file.path / METRICS_FILE if file.path.is_dir() else file.path
        self._system = file.system
        saved = read_sealed_json(self.path, advice="Run 'mqmha evaluate' (again) to write it.")
        if saved.get("format_version") != FORMAT_VERSION:
            raise UserError(
                f"{self.path} was written by another version of 'mqmha evaluate' (format "
                f"{saved.get('format_version')}, here {FORMAT_VERSION}); evaluate again."
            )
        self._saved = saved
        self.lists: dict[str, Any] = saved["lists"]
        self._speakers_file: str | None = saved["utt2spk"]

    def scores_path(self, name: str) -> Path:
        systems = self.lists[name]["systems"]
        system = next(iter(systems)) if self._system is None else self._system
        if system not in systems:
            raise unknown_name(f"system in {self.path}", system, systems)
        return check_file(self.path.parent, systems[system]["scores"], self._saved)

    def scores(self, name: str, trials: Trials) -> Float64[np.ndarray, " M"]:
        path = self.scores_path(name)
        own, _ = read_scored_trials(path)
        theirs, ours = ({*zip(*part[:2], part.target.tolist(), strict=True)} for part in (trials, own))
        if theirs != ours or len(own.target) != len(trials.target):
            raise UserError(
                f"{path}: its {len(own.target)} trials differ from the {len(trials.target)} of the first evaluation; "
                f"evaluate both systems on the same list {name}."
            )
        return read_scores(path, trials)

    def speakers(self, trials: Trials) -> tuple[np.ndarray, np.ndarray]:
        if self._speakers_file is None:
            raise UserError(
                f"{self.path} holds no speakers, which a comparison needs; evaluate again with --metadata FILE."
            )
        utt2spk = read_utt2spk(check_file(self.path.parent, self._speakers_file, self._saved))
        return trial_speakers(trials, utt2spk)
