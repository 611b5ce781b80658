"""Measures the time of whole processes, from the call in the shell to the answer that the user waits for.

    python benchmarks/startup.py measure RUN FIRST SECOND
    python benchmarks/startup.py measure RUN FIRST SECOND --beside ../before --rounds 5

The tasks are ``mqmha --help``, ``mqmha train --help``, ``mqmha verify RUN FIRST SECOND`` on two recordings, and the
first training step of a small network on random frames (until its line is in the log), fresh and resumed. The cache of
compiled programs is filled or empty; on request the environment's files are dropped from memory. Checkouts of the
project take turns; the script compares medians. Then it counts what a process does meanwhile: imports by package, and
compilations. Appends the result to ``benchmarks/results/startup.jsonl``.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from record import keep

PROJECT = Path(__file__).resolve().parents[1]
_PATH = click.Path(path_type=Path, exists=True, resolve_path=True)

_SPEAKERS, _UTTERANCES, _FRAMES = 40, 4, 300
_SMALL = (
    *("data.batch_size=32", "data.crop_frames=150", "data.sampling=utterance", "model.encoder.channels=128"),
    *("train.steps=2", "train.log_every=1", "train.checkpoint_every=1", "train.evaluate_every=2"),
)
_IMPORTS_SHOWN = 12


class Task(NamedTuple):
    """Something that a user waits for.

    Attributes:
      name: name of its row.
      arguments: arguments of ``mqmha``.
      compiles: whether the task compiles programs, which a cache can keep.
      prepare: called before each process.
      log, step: the user waits for this step's line in this log; without a log, for the end of the process.
    """

    name: str
    arguments: Sequence[str]
    compiles: bool = False
    prepare: Callable[[], object] = lambda: None
    log: Path | None = None
    step: int = 0


@click.group()
def main() -> None:
    """Measure the time to the first answer."""


@main.command(context_settings={"show_default": True})
@click.argument("run", type=_PATH)
@click.argument("first", type=_PATH)
@click.argument("second", type=_PATH)
@click.option("--rounds", type=click.IntRange(1), default=3, help="Number of processes of each kind.")
@click.option("--beside", type=_PATH, help="Another checkout of the project to compare with.")
@click.option("--cold-files", is_flag=True, help="Also measure with files dropped from memory (Linux).")
@click.option("--only", default="", help="Measure only tasks whose name contains this.")
@click.option("--counts/--no-counts", default=True, help="Also count imports and compilations.")
def measure(
    run: Path, first: Path, second: Path, rounds: int, beside: Path | None, cold_files: bool, only: str, counts: bool
) -> None:
    """Start processes, print and record medians; RUN is a work directory, FIRST and SECOND are recordings."""
    trees = {"this": PROJECT} | ({"beside": beside} if beside else {})
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tasks = [task for task in _tasks(work, [str(run), str(first), str(second)]) if only in task.name]
        if not tasks:
            raise click.UsageError(f"No task has {only!r} in its name; leave out --only for all of them.")
        seconds: dict[str, dict[str, list[float]]] = {}
        for number in range(1 + rounds):
            for task in tasks:
                for name, tree in trees.items():
                    waits = _waits(task, tree, work / "compiled" / name, cold_files=cold_files)
                    for row, wait in waits.items():
                        if number:  # the first round fills caches
                            seconds.setdefault(row, {}).setdefault(name, []).append(wait)
        medians = {row: {name: statistics.median(x) for name, x in of.items()} for row, of in seconds.items()}
        meanwhile = {
            task.name: {name: _meanwhile(task, tree, work) for name, tree in trees.items()}
            for task in tasks
            if counts and task.compiles
        }
    for row, of in medians.items():
        ratio = f"  ({of['this'] / of['beside']:.2f} x)" if beside else ""
        click.echo(f"{row:48s}" + "".join(f"{name} {value:6.2f} s  " for name, value in of.items()) + ratio)
    click.echo(json.dumps(meanwhile, indent=1))
    keep("startup", {"rounds": rounds, "median_seconds": medians, "meanwhile": meanwhile})


@main.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def inside(output: Path, arguments: tuple[str, ...]) -> None:
    """Run mqmha with ARGUMENTS in this process; write the compilations to OUTPUT."""
    import jax

    from mqmha_jax.cli import main as mqmha

    compiled = {"programs": 0, "seconds": 0.0}

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled["programs"] += 1
            compiled["seconds"] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    mqmha.main(arguments, standalone_mode=False)
    output.write_text(json.dumps(compiled))


def _tasks(work: Path, pair: Sequence[str]) -> list[Task]:
    shards, run = work / "shards", work / "run"
    _write_shards(shards)
    train = ["train", str(PROJECT / "configs" / "laptop.py"), "--workdir", str(run), "--quiet", f"data.train={shards}"]
    last_checkpoint = run / "checkpoints" / "2"
    first_step = Task("first training step", [*train, *_SMALL], True, lambda: _remove(run), run / "metrics.jsonl", 1)
    return [
        Task("mqmha --help", ["--help"]),
        Task("mqmha train --help", ["train", "--help"]),
        Task("mqmha verify", ["verify", *pair], True),
        first_step,
        first_step._replace(name="next step of a resumed run", prepare=lambda: _remove(last_checkpoint), step=2),
    ]


def _waits(task: Task, tree: Path, compiled: Path, *, cold_files: bool) -> Mapping[str, float]:
    """Measures one task in one checkout; returns row -> seconds."""
    waits = {task.name: _wait(task, tree, compiled)}
    if task.compiles:
        with tempfile.TemporaryDirectory() as empty:
            waits[f"{task.name}, nothing compiled"] = _wait(task, tree, Path(empty))
    if cold_files:
        _drop_from_memory(Path(sys.prefix), tree / "mqmha_jax")
        waits[f"{task.name}, no file in memory"] = _wait(task, tree, compiled)
    return waits


def _wait(task: Task, tree: Path, compiled: Path) -> float:
    task.prepare()
    start = time.time()
    _run(["-m", "mqmha_jax", *task.arguments], tree, compiled)
    end = time.time()
    if task.log is None:
        return end - start
    lines = [json.loads(line) for line in task.log.read_text().splitlines()]
    return next(line["time"] for line in lines if line["kind"] == "train" and line["step"] == task.step) - start


def _run(arguments: Sequence[str], tree: Path, compiled: Path) -> str:
    """Runs a Python process in a checkout and returns its stderr."""
    places = {"PYTHONPATH": str(tree), "JAX_COMPILATION_CACHE_DIR": str(compiled)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=os.environ | places, capture_output=True, text=True
    )
    if done.returncode:
        raise click.ClickException(f"python {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return done.stderr


def _meanwhile(task: Task, tree: Path, work: Path) -> dict[str, Any]:
    """Counts imports by package (timing slows them by a third) and compilations with an empty cache."""
    task.prepare()
    said = _run(["-X", "importtime", "-m", "mqmha_jax", *task.arguments], tree, work / "compiled" / "counted")
    microseconds: Counter[str] = Counter()
    for line in said.splitlines():
        own, bar, module = line.removeprefix("import time:").partition("|")
        if bar and own.strip().isdigit():
            microseconds[module.rpartition("|")[2].strip().partition(".")[0]] += int(own)
    task.prepare()
    with tempfile.TemporaryDirectory() as empty:
        output = Path(empty, "compiled.json")
        _run([__file__, "inside", str(output), "--", *task.arguments], tree, Path(empty, "cache"))
        compiled = json.loads(output.read_text())
    return {
        "compiled": {"programs": compiled["programs"], "seconds": round(compiled["seconds"], 2)},
        "imports": {
            "all": round(microseconds.total() / 1e6, 2),
            **{name: round(x / 1e6, 3) for name, x in microseconds.most_common(_IMPORTS_SHOWN)},
        },
    }


def _write_shards(directory: Path) -> None:
    from mqmha_jax.config import FbankSpec
    from mqmha_jax.data.shard_writer import UtteranceFbank, write_shards

    rng = np.random.default_rng(0)
    spec = FbankSpec()
    frames = rng.normal(size=(_FRAMES, spec.num_features)).astype(np.float16)
    names = [(f"s{speaker}", f"s{speaker}/u{i}") for speaker in range(_SPEAKERS) for i in range(_UTTERANCES)]
    utterances = [UtteranceFbank(utterance, speaker, frames) for speaker, utterance in names]
    write_shards(directory, utterances, spec=spec, provenance={"corpus": "random frames"})


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def _drop_from_memory(*folders: Path) -> None:
    """Drops files from memory, as a reboot does, except those that other processes are using."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
