"""Trains ours and a plain PyTorch TDNN on real speech for the same time on the same machine, and compares their EER.

Both learn from the same training split of a speech folder (``real_speech.py`` describes it), each from versions of its
own; the peer is ``torch_tdnn.py``. First both make some steps to find out how many fit into the time. Then they train
in turns: while one runs, the other's processes are stopped, so drifts of the machine affect both alike. Prints the EER
of each list, mean over seeds, and the difference of the means over lists with an interval over speakers and seeds, of
cosines and after adaptive s-norm with training speakers as cohort; appends all to ``results/real_speech_race.jsonl``.

    python benchmarks/real_speech_race.py SPEECH WORK --torch-python ENV/bin/python --minutes 15 --seeds 0,1,2

OVERRIDES are options of ours. A second call reuses shards and finished runs, those of the peer too; other settings of
ours need another --name.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from mean_over_lists import Labels, TrialScores, compare_means, equal_error_rates, speakers_by_utterance
from real_speech import TRAINING, eval_csv, eval_lists, plan_versions, prepare_shards, prepare_training
from record import keep
from tabulate import tabulate
from turns import HUGE_PAGES

from mqmha_jax.atomic import replacing
from mqmha_jax.config import FbankSpec
from mqmha_jax.config_io import load_config
from mqmha_jax.data.lists import read_trials
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.evaluation.embeddings.speakers import average_units
from mqmha_jax.evaluation.evaluate_lists import evaluate_run
from mqmha_jax.evaluation.metrics.bootstrap import trial_speakers
from mqmha_jax.evaluation.metrics.measure_list import Measuring
from mqmha_jax.evaluation.scoring.cosine import as_norm, cosine_scores
from mqmha_jax.evaluation.scoring.method import Method
from mqmha_jax.runs.log_lines import read_log
from mqmha_jax.types import Embeddings

HERE = Path(__file__).parent
PEER_FBANK = FbankSpec(num_mel_bins=64)
ONLY_SCORES = Measuring(replicates=0)
_TRIAL_STEPS = 60
PATH = click.Path(path_type=Path)


@click.command(context_settings={"show_default": True})
@click.argument("speech", type=click.Path(path_type=Path, exists=True))
@click.argument("work", type=PATH)
@click.option("--torch-python", required=True, help="An interpreter that has torch, numpy and click.")
@click.option("--config", default="laptop", help="Our configuration.")
@click.option("--name", default="ours", help="Name of our setting in the table and in WORK.")
@click.option("--minutes", default=15.0, help="Training time of each contender.")
@click.option("--seeds", default="0,1,2", help="Seeds, separated by commas.")
@click.option("--versions", default=",".join(TRAINING), help="Versions of our training recordings (real_speech.py).")
@click.option("--speeds", default="1.0", help="Speeds of our training recordings (real_speech.py).")
@click.option("--peer-versions", default="clean,noise", help="Versions of the peer's training recordings.")
@click.option("--turn", default=30.0, help="Seconds of a turn.")
@click.argument("overrides", nargs=-1)
def main(
    speech: Path,
    work: Path,
    torch_python: str,
    config: str,
    name: str,
    minutes: float,
    seeds: str,
    versions: str,
    speeds: str,
    peer_versions: str,
    turn: float,
    overrides: tuple[str, ...],
) -> None:
    """Train both for the same MINUTES, print and record the table."""
    if name == "peer":
        raise click.BadParameter("'peer' is the other contender; give another name.", param_hint="--name")
    work.mkdir(parents=True, exist_ok=True)
    trials, fbank = dict(eval_lists(speech)), load_config(config, overrides).fbank
    shards = {part: prepare_shards(speech, work / f"eval_{part}", eval_csv(speech, part), fbank) for part in trials}
    lists = {part: label_trials(path, shards[part]) for part, path in trials.items()}
    train_list = speech / "lists" / "train.csv"
    train_shards, training = prepare_training(speech, work / "train", train_list, fbank, versions, speeds)
    peer_training = write_peer_training(speech, work, peer_versions)
    contenders: dict[str, Ours | Peer] = {
        name: Ours(config, shards, trials, [*training, *overrides], cohort=train_shards[0]),
        "peer": Peer(torch_python, peer_training, write_peer_lists(speech, work, trials), trials),
    }
    about: dict[str, dict[str, Any]] = {
        name: {"config": config, "recordings": versions, "speeds": speeds, "overrides": list(overrides)},
        "peer": {"recordings": peer_versions},
    }
    for who, contender in contenders.items():
        about[who]["steps"] = round(minutes * 60 / measure_step(contender, work / f"speed_{who}", turn))
        click.echo(f"{who}: {about[who]['steps']} steps in {minutes:g} minutes")
    scores: dict[str, list[Scores]] = {who: [] for who in contenders}
    for seed in map(int, seeds.split(",")):
        outputs = {who: work / f"{who}_{minutes:g}min_seed{seed}" for who in contenders}
        commands = {who: c.command(outputs[who], about[who]["steps"], seed) for who, c in contenders.items()}
        awake = train_in_turns({outputs[who]: command for who, command in commands.items()}, turn)
        for who, contender in contenders.items():
            scores[who].append(contender.scores(outputs[who]))
            rates, normalised = (equal_error_rates(one, lists) for one in scores[who][-1])
            click.echo(f"{who}, seed {seed}: {' '.join(f'{part} {rate:.2%}' for part, rate in rates.items())}")
            if outputs[who] in awake:
                seconds = awake[outputs[who]]
                figures = {
                    "minutes": seconds and round(seconds / 60, 2),
                    "eer": rates,
                    "mean_eer": statistics.mean(rates.values()),
                    "eer_as_norm": normalised,
                    "mean_eer_as_norm": statistics.mean(normalised.values()),
                }
                keep("real_speech_race", {"contender": who, "seed": seed, **about[who], **figures})
    _show(name, scores, lists)


def label_trials(path: Path, shards: Path) -> Labels:
    """Reads whether each trial is a target, and its speakers."""
    trials = read_trials(path)
    return (trials.target, *trial_speakers(trials, speakers_by_utterance(open_shards(shards))))


def measure_step(contender: "Ours | Peer", output: Path, turn: float) -> float:
    """Seconds of a step when nothing else runs."""
    train_in_turns({output: contender.command(output, _TRIAL_STEPS, seed=0)}, turn)
    return contender.seconds_per_step(output)


class Scores(NamedTuple):
    """Scores of the same trials by one network: cosines, and cosines after adaptive s-norm."""

    cosine: TrialScores
    as_norm: TrialScores


class Ours(NamedTuple):
    """The package's own commands; ``cohort`` holds training speakers for score normalisation."""

    config: str
    eval_shards: Mapping[str, Path]
    lists: Mapping[str, Path]
    overrides: Sequence[str]
    cohort: Path

    def command(self, output: Path, steps: int, seed: int) -> list[str]:
        options = [f"train.steps={steps}", f"train.seed={seed}", "train.log_every=10"]
        train = [sys.executable, "-m", "mqmha_jax", "train", self.config, "--workdir", str(output), "--quiet"]
        return [*train, *options, *self.overrides]

    def seconds_per_step(self, output: Path) -> float:
        """Of the last half of a run: the first steps wait for the compiler."""
        lines = [line for line in read_log(output) if line["kind"] == "train"]
        middle, last = lines[len(lines) // 2 - 1], lines[-1]
        return (last["time"] - middle["time"]) / (last["step"] - middle["step"])

    def scores(self, output: Path) -> Scores:
        rest: dict[str, Any] = {"method": Method(cohort=self.cohort), "measuring": ONLY_SCORES, "progress": False}
        cosine, normalised = {}, {}
        for name, shards in self.eval_shards.items():
            found = evaluate_run(output, data=[shards], lists=[self.lists[name]], **rest).lists[0]
            cosine[name], normalised[name] = (system.scores for system in found.systems)
        return Scores(cosine, normalised)


class Peer(NamedTuple):
    """``torch_tdnn.py``."""

    python: str
    train: Path
    evaluated: Path
    lists: Mapping[str, Path]

    def command(self, output: Path, steps: int, seed: int) -> list[str]:
        script = [self.python, str(HERE / "torch_tdnn.py"), str(self.train), str(self.evaluated), f"{output}.npz"]
        return [*script, f"--steps={steps}", f"--seed={seed}"]

    def seconds_per_step(self, output: Path) -> float:
        """Median over a run."""
        return float(np.load(f"{output}.npz")["seconds_per_step"])

    def scores(self, output: Path) -> Scores:
        ids = tuple(json.loads(self.evaluated.with_suffix(".json").read_text()))
        stored = np.load(f"{output}.npz")
        embeddings = Embeddings(ids, stored["vectors"])
        cohort = average_units(stored["cohort"], stored["cohort_speaker"])
        top_n = min(Method().top_n, len(cohort))
        trials = {name: read_trials(path) for name, path in self.lists.items()}
        return Scores(
            {name: cosine_scores(embeddings, one) for name, one in trials.items()},
            {name: as_norm(embeddings, one, cohort, top_n=top_n) for name, one in trials.items()},
        )


def train_in_turns(commands: Mapping[Path, Sequence[str]], turn: float) -> dict[Path, float | None]:
    """Runs the commands that have not ended in an earlier call, in turns of some seconds.

    Returns:
      How many seconds each was awake; None if it resumed what an interrupted call had begun.

    Raises:
      click.ClickException: a command failed, or an earlier call ran another one for the same output.
    """
    pending = {output: command for output, command in commands.items() if not _has_ended(output, command)}
    resumed = {output for output in pending if output.exists()}
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that "finally" ends the commands
    running = {
        output: subprocess.Popen(command, start_new_session=True, env=os.environ | HUGE_PAGES)
        for output, command in pending.items()
    }
    awake = dict.fromkeys(running, 0.0)
    ended: dict[Path, float | None] = {}
    try:
        for process in [*running.values()][1:]:
            os.killpg(process.pid, signal.SIGSTOP)
        while going := [output for output, process in running.items() if process.returncode is None]:
            for output in going:
                awake[output] += _wake(running[output], turn)
                if running[output].returncode == 0:
                    ended[output] = None if output in resumed else awake[output]
                    _marker(output).write_text(json.dumps({"command": pending[output], "seconds": ended[output]}))
    finally:
        for process in running.values():
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    for output, process in running.items():
        if process.returncode:
            raise click.ClickException(f"{' '.join(pending[output])} ended with status {process.returncode}.")
    return ended


def _has_ended(output: Path, command: Sequence[str]) -> bool:
    """Whether an earlier call ran this command to its end."""
    if not _marker(output).exists():
        return False
    if json.loads(_marker(output).read_text())["command"] != command:
        raise click.ClickException(
            f"{output} comes from an earlier call with other settings; give another --name or WORK."
        )
    return True


def _wake(process: subprocess.Popen[bytes], turn: float) -> float:
    """Lets a stopped process run for a turn; returns for how many seconds it was awake."""
    os.killpg(process.pid, signal.SIGCONT)
    started = time.monotonic()
    try:
        process.wait(turn)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGSTOP)
    return time.monotonic() - started


def write_peer_training(speech: Path, work: Path, versions: str) -> Path:
    """The frames of the training split, as the peer reads them."""
    plan, directory = plan_versions(speech, versions.split(",")), work / f"peer_train_{versions}"
    shards = prepare_shards(speech, directory, speech / "lists" / "train.csv", PEER_FBANK, plan=plan)
    return _write_frames([shards], directory.with_name(f"{directory.name}.npz"))


def write_peer_lists(speech: Path, work: Path, lists: Mapping[str, Path]) -> Path:
    """The frames of all evaluation lists together; the ids lie beside them."""
    csvs = sorted({eval_csv(speech, name) for name in lists})
    shards = [prepare_shards(speech, work / f"peer_{path.stem}", path, PEER_FBANK) for path in csvs]
    return _write_frames(shards, work / "peer_eval.npz")


def _write_frames(directories: Sequence[Path], path: Path) -> Path:
    """Writes the frames of shards into one file, once; the ids lie beside it."""
    if path.exists():
        return path
    parts = [open_shards(directory) for directory in directories]
    frames = [shards.fbank(i) for shards in parts for i in range(len(shards))]
    ids = [shards.utterance(i) for shards in parts for i in range(len(shards))]
    path.with_suffix(".json").write_text(json.dumps(ids))
    end, speaker = np.cumsum([len(one) for one in frames]), np.concatenate([one.speaker for one in parts])
    with replacing(path) as half_written, half_written.open("wb") as file:
        np.savez(file, frames=np.concatenate(frames), end=end, speaker=speaker)
    return path


def _marker(output: Path) -> Path:
    """Says that a run has ended: its command, and how many seconds it was awake."""
    return output.with_name(f"{output.name}.json")


def _show(name: str, scores: Mapping[str, Sequence[Scores]], lists: Mapping[str, Labels]) -> None:
    """Prints the mean EER over the seeds, and how ours compares with the peer, by either kind of score."""
    for kind in Scores._fields:
        by_seed = {who: [getattr(one, kind) for one in seeds] for who, seeds in scores.items()}
        rows = []
        for who, seeds in by_seed.items():
            rates = [equal_error_rates(one, lists) for one in seeds]
            means = [statistics.mean(rate[part] for rate in rates) for part in lists]
            rows.append([who, *(f"{mean:.2%}" for mean in means), f"{statistics.mean(means):.2%}"])
        click.echo(tabulate(rows, [f"EER, {kind}", *lists, "mean"], tablefmt="github"))
        click.echo(f"{name} against the peer: {compare_means(by_seed['peer'], by_seed[name], lists)}")


if __name__ == "__main__":
    main()
