"""Measures the EER on a folder of real speech with disjoint training and evaluation speakers.

The folder holds ``lists/train.csv`` and ``lists/eval_*.csv`` (columns path, speaker, set, session), trial lists
``lists/trials_*.txt``, ``noise/`` and ``rir/``. Use ``--hold-out`` to choose settings: it moves some training speakers
to dev lists. Appends every evaluation to ``benchmarks/results/real_speech.jsonl``.

    python benchmarks/real_speech.py SPEECH WORK --hold-out     # choose settings on held-out training speakers
    python benchmarks/real_speech.py SPEECH WORK                # the final run, on the whole training split
"""

import csv
import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import jax
import numpy as np

from data_prep.build_shards import build_shards
from data_prep.corpora import CORPORA
from data_prep.ordered_map import num_cores
from data_prep.trials import make_trials, write_trials
from data_prep.versions import VersionPlan
from mqmha_jax.config import FbankSpec
from mqmha_jax.config_io import load_config
from mqmha_jax.evaluation.evaluate_lists import evaluate_run
from mqmha_jax.evaluation.report.tables import format_tables, write_evaluation
from mqmha_jax.runs.metrics_log import read_log
from mqmha_jax.train.loop import train
from mqmha_jax.types import Trials

RESULTS = Path(__file__).parent / "results" / "real_speech.jsonl"
TRAINING = ("clean", "noise", "reverb", "telephone")
HELD_OUT_SHARE = 0.2


@click.command(context_settings={"show_default": True})
@click.argument("speech", type=click.Path(path_type=Path, exists=True))
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--hold-out", is_flag=True, help="Hold out training speakers for dev lists; evaluate only on these.")
@click.option("--name", default="laptop", help="Name of the run, below WORK/runs.")
@click.option("--at", "at_minutes", type=float, help="Also evaluate the checkpoint nearest to this many minutes.")
@click.argument("overrides", nargs=-1)
def main(
    speech: Path, work: Path, hold_out: bool, name: str, at_minutes: float | None, overrides: tuple[str, ...]
) -> None:
    """Prepare SPEECH once into WORK, train configs/laptop.py with OVERRIDES, print and record the table."""
    split = _split(speech, work, hold_out)
    lists = {"dev": split["dev_trials"]} if hold_out else dict(eval_lists(speech))
    train_shards = prepare_shards(speech, work / split["name"], split["train"], plan=plan_versions(speech))
    options = [f"data.train={train_shards}", *overrides]
    if hold_out:
        dev_shards = prepare_shards(speech, work / "dev", split["dev"])
        options += [f"data.dev={dev_shards}", f"data.dev_trials={split['dev_trials']}"]
    workdir = work / "runs" / name
    train(load_config("laptop", options), workdir)
    steps = [None] if at_minutes is None else [_step_at(workdir, at_minutes), None]
    for step in steps:
        shards = [work / "dev"] if hold_out else [prepare_shards(speech, work / n, eval_csv(speech, n)) for n in lists]
        # Lists have the names of their files: dev, trials_libri10, ...
        evaluation = evaluate_run(workdir, data=shards, lists=list(lists.values()), step=step)
        write_evaluation(workdir / "evaluation", evaluation, title="real speech, speakers outside the training data")
        click.echo(f"step {step or 'last'}\n{format_tables(evaluation.lists)}")
        metrics = {part.name.removeprefix("trials_"): part.systems[0].metrics for part in evaluation.lists}
        rates = {part: (own["EER"].value, own["minDCF 0.01"].value) for part, own in metrics.items()}
        _record(name, step, hold_out, overrides, rates, workdir)


def _split(speech: Path, work: Path, hold_out: bool) -> dict[str, Path]:
    """Writes CSV lists of training and dev speakers, and dev trials within each set, across sessions."""
    everything = speech / "lists" / "train.csv"
    if not hold_out:
        return {"name": Path("train"), "train": everything}
    work.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader(everything.open()))
    recordings: dict[str, dict[str, list[dict[str, str]]]] = {}
    for row in rows:
        recordings.setdefault(row["set"], {}).setdefault(row["speaker"], []).append(row)
    rng = np.random.default_rng(0)
    dev: list[dict[str, str]] = []
    parts: list[Trials] = []
    for speakers in recordings.values():
        pairable = sorted(speaker for speaker, own in speakers.items() if len(own) > 1)
        if not pairable:  # one recording per speaker: nothing to pair
            continue
        chosen = rng.permutation(pairable)[: max(2, round(HELD_OUT_SHARE * len(pairable)))]
        own = [row for speaker in chosen for row in speakers[speaker]]
        sessions = {row["path"]: row["session"] or row["path"] for row in own}
        parts.append(make_trials({row["path"]: row["speaker"] for row in own}, sessions, per_speaker=200))
        dev += own
    held_out = {row["speaker"] for row in dev}
    paths = {"name": Path("train_held_out"), "train": work / "train_held_out.csv", "dev": work / "dev.csv"}
    _write_csv(paths["train"], [row for row in rows if row["speaker"] not in held_out])
    _write_csv(paths["dev"], dev)
    paths["dev_trials"] = work / "dev.trials"
    write_trials(
        paths["dev_trials"],
        Trials(
            tuple(u for part in parts for u in part.enrol),
            tuple(u for part in parts for u in part.test),
            np.concatenate([part.target for part in parts]),
        ),
    )
    return paths


def plan_versions(speech: Path, names: Sequence[str] = TRAINING) -> VersionPlan:
    """Plans versions of each recording, with the noise and the rooms of the folder."""
    return VersionPlan(names=tuple(names), noise=speech / "noise", room_responses=speech / "rir", seed=0)


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


def _write_csv(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _record(
    name: str,
    step: int | None,
    hold_out: bool,
    overrides: Sequence[str],
    results: Mapping[str, tuple[float, float]],
    workdir: Path,
) -> None:
    lines = [line for line in read_log(workdir) if step is None or line["step"] <= step]
    record = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "jax": jax.__version__,
        "run": name,
        "step": lines[-1]["step"],
        "minutes": round((lines[-1]["time"] - lines[0]["time"]) / 60, 1),
        "hold_out": hold_out,
        "overrides": list(overrides),
        "lists": {key: {"eer": eer, "min_dcf_01": cost} for key, (eer, cost) in results.items()},
        "mean_eer": float(np.mean([eer for eer, _ in results.values()])),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
