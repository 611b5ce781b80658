"""Measures the EER on a folder of real speech with disjoint training and evaluation speakers.

The folder holds ``lists/train.csv`` and ``lists/eval_*.csv`` (columns path, speaker, set, session), trial lists
``lists/trials_*.txt``, ``noise/`` and ``rir/``. Use ``--hold-out`` to choose settings: it moves some training speakers
to dev lists (``held_out_speakers.py``), and repeats each list with the test side in noise, in a room, and on the
telephone: the "crossed" lists. Scores are cosines, and cosines after adaptive s-norm. Appends every evaluation to
``benchmarks/results/real_speech.jsonl``.

    python benchmarks/real_speech.py SPEECH WORK --hold-out     # choose settings on held-out training speakers
    python benchmarks/real_speech.py SPEECH WORK                # the final run, on the whole training split
"""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from held_out_speakers import cross_channels, split_training_speakers
from record import keep

from data_prep.build_shards import build_shards
from data_prep.corpora import CORPORA
from data_prep.ordered_map import num_cores
from data_prep.versions import VersionPlan
from mqmha_jax.config import FbankSpec
from mqmha_jax.config_io import load_config
from mqmha_jax.evaluation.evaluate_lists import evaluate_run
from mqmha_jax.evaluation.report.tables import format_tables, write_evaluation
from mqmha_jax.evaluation.results import Evaluation
from mqmha_jax.evaluation.scoring.method import Method
from mqmha_jax.runs.log_lines import read_log
from mqmha_jax.train.loop import train

TRAINING = ("clean", "noise", "reverb", "telephone")


@click.command(context_settings={"show_default": True})
@click.argument("speech", type=click.Path(path_type=Path, exists=True))
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--hold-out", is_flag=True, help="Hold out training speakers; evaluate only on these.")
@click.option("--name", default="laptop", help="Name of the run, below WORK/runs.")
@click.option("--at", "at_minutes", type=float, help="Also evaluate the checkpoint nearest to this many minutes.")
@click.option(
    "--versions", default=",".join(TRAINING), help="Versions of the training recordings; clean:3 counts three."
)
@click.option("--speeds", default="1.0", help="Speeds of the training recordings; others than 1.0 make new speakers.")
@click.argument("overrides", nargs=-1)
def main(
    speech: Path,
    work: Path,
    hold_out: bool,
    name: str,
    at_minutes: float | None,
    versions: str,
    speeds: str,
    overrides: tuple[str, ...],
) -> None:
    """Prepare SPEECH once into WORK, train configs/laptop.py with OVERRIDES, print and record the table."""
    fbank = load_config("laptop", overrides).fbank
    data = _hold_out(speech, work, fbank) if hold_out else _final(speech, work, fbank)
    train_shards, training = prepare_training(speech, work / data.name, data.train, fbank, versions, speeds)
    workdir = work / "runs" / name
    train(load_config("laptop", [*training, *overrides]), workdir)
    steps = [None] if at_minutes is None else [_step_at(workdir, at_minutes), None]
    for step in steps:
        method = Method(cohort=train_shards[0])  # cosine, and adaptive s-norm beside it
        evaluation = evaluate_run(
            workdir, data=data.shards, lists=[*data.trials, *data.crossed], method=method, step=step
        )
        write_evaluation(workdir / "evaluation", evaluation, title="real speech, speakers outside the training data")
        click.echo(f"step {step or 'last'}\n{format_tables(evaluation.lists)}")
        about = {"hold_out": hold_out, "recordings": versions, "speeds": speeds, "overrides": list(overrides)}
        _record(name, step, about, evaluation, workdir, {path.stem for path in data.crossed})


class _Data(NamedTuple):
    """Whom a run learns from, and whom it is evaluated on; the sides of a crossed trial differ in their channel."""

    name: str
    train: Path
    shards: Sequence[Path]
    trials: Sequence[Path]
    crossed: Sequence[Path] = ()


def _hold_out(speech: Path, work: Path, fbank: FbankSpec) -> _Data:
    split = split_training_speakers(speech, work / "held_out")
    dev = prepare_shards(speech, work / "dev_versions", split.dev, fbank, plan=plan_versions(speech))
    crossed = cross_channels(split.trials, [version for version in TRAINING if version != "clean"])
    return _Data("train_held_out", split.train, [dev], [*split.trials.values()], crossed)


def _final(speech: Path, work: Path, fbank: FbankSpec) -> _Data:
    lists = dict(eval_lists(speech))
    shards = [prepare_shards(speech, work / name, eval_csv(speech, name), fbank) for name in lists]
    return _Data("train", speech / "lists" / "train.csv", shards, [*lists.values()])


def plan_versions(speech: Path, names: Sequence[str] = TRAINING) -> VersionPlan:
    """Plans versions of each recording, with the noise and the rooms of the folder."""
    return VersionPlan(names=tuple(names), noise=speech / "noise", room_responses=speech / "rir", seed=0)


def prepare_training(
    speech: Path, stem: Path, list_path: Path, fbank: FbankSpec, versions: str, speeds: str
) -> tuple[list[Path], list[str]]:
    """Makes shards of the training list, one directory for each version.

    Args:
      speech: the folder.
      stem: what the names of the directories begin with.
      list_path: the training list.
      fbank: the filterbank.
      versions: such as ``clean:3,noise``: clean copies are drawn three times as often as noisy ones.
      speeds: such as ``1.0,0.9,1.1``.

    Returns:
      The directories, and options of the configuration that join them with their weights.
    """
    directories, weights = [], []
    for part in versions.split(","):
        version, _, weight = part.partition(":")
        plan = dataclasses.replace(plan_versions(speech, [version]), speeds=tuple(map(float, speeds.split(","))))
        directory = stem.with_name("_".join([stem.name, version, *([] if speeds == "1.0" else [speeds])]))
        directories.append(prepare_shards(speech, directory, list_path, fbank, plan=plan))
        weights.append(float(weight or 1))
    joined = [f"data.train={json.dumps([*map(str, directories)])}", f"data.corpus_weights={json.dumps(weights)}"]
    return directories, [*joined, "data.shared_speakers=join"]


def prepare_shards(
    speech: Path, directory: Path, list_path: Path, spec: FbankSpec | None = None, *, plan: VersionPlan | None = None
) -> Path:
    """Makes shards of a list, once; ``spec`` is the filterbank, that of the laptop's configuration if none is given."""
    if not directory.exists():
        build_shards(
            CORPORA["csv"](list_path, speech),
            directory,
            spec=spec or load_config("laptop").fbank,
            plan=plan,
            provenance={"list": list_path.name},
            num_workers=num_cores(),
            max_rejected=0,
        )
    return directory


def eval_lists(speech: Path) -> Sequence[tuple[str, Path]]:
    return [(path.stem.removeprefix("trials_"), path) for path in sorted((speech / "lists").glob("trials_*.txt"))]


def eval_csv(speech: Path, list_name: str) -> Path:
    return speech / "lists" / f"eval_{list_name.removesuffix('_xsession')}.csv"


def _step_at(workdir: Path, minutes: float) -> int:
    """Finds the checkpoint nearest to this many minutes of wall time."""
    lines = read_log(workdir)
    start = lines[0]["time"]
    kept = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())
    when = {line["step"]: (line["time"] - start) / 60 for line in lines if line["step"] in kept}
    return min(when, key=lambda step: abs(when[step] - minutes))


def _record(
    name: str,
    step: int | None,
    about: Mapping[str, Any],
    evaluation: Evaluation,
    workdir: Path,
    crossed: Collection[str],
) -> None:
    lines = [line for line in read_log(workdir) if step is None or line["step"] <= step]
    figures = {
        "run": name,
        "step": lines[-1]["step"],
        "minutes": round((lines[-1]["time"] - lines[0]["time"]) / 60, 1),
        **about,
    }
    for system, suffix in ((0, ""), (-1, "_as_norm")):
        metrics = {part.name.removeprefix("trials_"): part.systems[system].metrics for part in evaluation.lists}
        figures[f"lists{suffix}"] = {
            key: {"eer": own["EER"].value, "min_dcf_01": own["minDCF 0.01"].value} for key, own in metrics.items()
        }
        for kind, names in {"": metrics.keys() - crossed, "_crossed": metrics.keys() & crossed}.items():
            if names:
                eers = [metrics[part]["EER"].value for part in names]
                figures[f"mean_eer{kind}{suffix}"] = float(np.mean(eers))
    keep("real_speech", figures)


if __name__ == "__main__":
    main()
