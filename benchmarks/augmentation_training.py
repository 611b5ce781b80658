"""Compares EERs without augmentation, with offline copies, and with noise and rooms mixed inside the step.

All arms train for the same number of steps with n seeds. Offline and device have the same distribution: a third of the
examples clean, a third with a noise at 0 to 15 dB, a third in a room. Offline keeps one noise and one room per
utterance in all epochs; the device draws new ones. ``chain`` is the device with separate chances of noise and room, so
that one example can have both; no other arm has such examples.

    python benchmarks/augmentation_training.py SPEECH WORK --steps 700 --seeds 3
    python benchmarks/augmentation_training.py SPEECH WORK --summary

SPEECH is as for ``real_speech.py``. Every finished cell (arm, seed) is a line of
``results/augmentation_training.jsonl``. A second call skips the recorded cells and resumes an interrupted one from its
checkpoint.
"""

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
import scipy.stats
from real_speech import eval_csv, eval_lists, prepare_shards

from data_prep.build_shards import build_shards
from data_prep.corpora import CORPORA
from data_prep.ordered_map import num_cores
from data_prep.rooms import make_rooms
from data_prep.versions import VersionPlan
from mqmha_jax.config_io import load_config
from mqmha_jax.evaluation.evaluate_lists import evaluate_run
from mqmha_jax.runs.log_lines import read_log
from mqmha_jax.train.loop import train

RESULTS = Path(__file__).parent / "results" / "augmentation_training.jsonl"
NO_MUSIC = ["augment.music_probability=0", "augment.babble_probability=0"]
"""SPEECH has noises and rooms, but no music."""


@click.command(context_settings={"show_default": True})
@click.argument("speech", type=click.Path(path_type=Path, exists=True))
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--steps", default=700, help="Number of training steps of each cell.")
@click.option("--seeds", default=3, help="Number of runs of each arm.")
@click.option("--arms", default="none,offline,device,chain", help="Arms to train, separated by commas.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="File that records the cells.")
@click.option("--summary", is_flag=True, help="Compare the recorded cells without training.")
def main(speech: Path, work: Path, steps: int, seeds: int, arms: str, results: Path, summary: bool) -> None:
    """Train and evaluate the missing cells, seed by seed, then compare."""
    names = arms.split(",")
    if not summary:
        options = prepare_arms(speech, work)
        for seed in range(seeds):
            for arm in names:
                if (arm, seed) not in cells(results, steps):
                    record(results, cell(speech, work, arm, seed, steps, options[arm]))
    click.echo(compare_arms(cells(results, steps), names))


def prepare_arms(speech: Path, work: Path) -> dict[str, list[str]]:
    """Makes shards and rooms once, and returns the options of every arm."""
    train_list = speech / "lists" / "train.csv"
    clean = prepare_shards(speech, work / "clean", train_list)
    offline, noise, rooms = work / "offline", work / "noise", work / "rooms.npz"
    common: dict[str, Any] = {"spec": load_config("laptop").fbank, "num_workers": num_cores(), "max_rejected": 0}
    if not offline.exists():
        plan = VersionPlan(names=("clean", "noise", "reverb"), noise=speech / "noise", room_responses=speech / "rir")
        build_shards(CORPORA["csv"](train_list, speech), offline, plan=plan, provenance={}, **common)
    if not noise.exists():
        build_shards(CORPORA["folder"](speech / "noise"), noise, provenance={}, **common)
    if not rooms.exists():
        make_rooms(speech / "rir", rooms, spec=load_config("laptop").fbank)
    third = round(1 / 3, 6)
    device = [f"data.train={clean}", f"augment.noise={noise}", f"augment.rooms={rooms}", *NO_MUSIC]
    return {
        "none": [f"data.train={clean}"],
        "offline": [f"data.train={offline}"],
        "device": [
            *device,
            "augment.one_at_a_time=true",
            f"augment.noise_probability={third}",
            f"augment.reverb_probability={third}",
        ],
        "chain": [*device, "augment.noise_probability=0.5", "augment.reverb_probability=0.5"],
    }


def cell(speech: Path, work: Path, arm: str, seed: int, steps: int, options: list[str]) -> dict:
    """Trains one cell and measures its error rates."""
    length = [f"train.steps={steps}", f"train.seed={seed}", f"train.checkpoint_every={max(1, steps // 4)}"]
    workdir = work / "runs" / f"{arm}-{seed}-{steps}"
    outcome = train(load_config("laptop", [*options, *length, "train.keep_checkpoints=1"]), workdir)
    if not outcome.finished:
        raise click.Abort
    speeds = [line["utterances_per_second"] for line in read_log(workdir) if "utterances_per_second" in line]
    lists = dict(eval_lists(speech))
    shards = [prepare_shards(speech, work / name, eval_csv(speech, name)) for name in lists]
    evaluation = evaluate_run(workdir, data=shards, lists=list(lists.values()))
    rates = {part.name.removeprefix("trials_"): part.systems[0].metrics["EER"].value for part in evaluation.lists}
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "jax": jax.__version__,
        "arm": arm,
        "seed": seed,
        "steps": steps,
        "utterances_per_second": round(float(np.median(speeds)), 1),
        "data_wait": round(outcome.data_wait, 3),
        "eer": rates,
        "mean_eer": float(np.mean(list(rates.values()))),
    }


def cells(results: Path, steps: int) -> dict[tuple[str, int], dict]:
    """Reads the recorded cells with this number of steps."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {(line["arm"], line["seed"]): line for line in map(json.loads, lines) if line["steps"] == steps}


def record(results: Path, line: dict) -> None:
    """Appends one cell."""
    results.parent.mkdir(exist_ok=True)
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")


def compare_arms(done: dict[tuple[str, int], dict], arms: list[str]) -> str:
    """Formats the EER of each arm, a mean over seeds, and its difference from the first arm over their common seeds."""
    lines = ["arm       seeds   mean EER %   per list; difference to the first arm, in points, with 95 % interval"]
    for arm in arms:
        own = {seed: cell for (name, seed), cell in done.items() if name == arm}
        if not own:
            continue
        per_list = {
            name: np.mean([cell["eer"][name] for cell in own.values()]) for name in next(iter(own.values()))["eer"]
        }
        shown = ", ".join(f"{name} {100 * rate:.1f}" for name, rate in per_list.items())
        mean = 100 * np.mean([cell["mean_eer"] for cell in own.values()])
        pairs = [100 * (own[s]["mean_eer"] - done[arms[0], s]["mean_eer"]) for s in own if (arms[0], s) in done]
        lines.append(f"{arm:9} {len(own):5} {mean:12.2f}   {shown}; {_interval(pairs) if arm != arms[0] else '-'}")
    return "\n".join(lines)


def _interval(differences: list[float]) -> str:
    if len(differences) < 2:
        return "too few seeds"
    half = scipy.stats.t.ppf(0.975, len(differences) - 1) * scipy.stats.sem(differences)
    return f"{np.mean(differences):+.2f} +- {half:.2f}"


if __name__ == "__main__":
    main()
