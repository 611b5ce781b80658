"""Measures the cost of a checkpoint's hashes: saves and loads a state of 300 MB with and without them.

    python benchmarks/checkpoint_hashes.py
    python benchmarks/checkpoint_hashes.py --megabytes 1000 --rounds 3

Each round saves and loads once with and once without hashes, in turns, in a new directory. Files are in the page cache
when they are loaded, so that slow reads do not hide the hashes. Figures are medians over the rounds. "save returns" is
the time for which training waits; the rest of a save happens in the background. Appends the result to
``benchmarks/results/checkpoint_hashes.jsonl``.
"""

import contextlib
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from unittest import mock

import click
import jax
import jax.numpy as jnp
from record import keep

from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.state import TrainState

_ROWS = 1024


def _make_state(megabytes: int) -> TrainState:
    """Makes a state of four equal parts: network, head, and the momentum of both."""
    columns = megabytes * 10**6 // 4 // _ROWS // 4
    array = jax.random.normal(jax.random.key(0), (_ROWS, columns))
    net, head = {"kernel": array}, {"prototypes": array + 1}
    return TrainState(
        step=jnp.int32(1),
        params={"net": net, "head": head},
        batch_stats={"mean": jnp.zeros(8)},
        average={},
        opt_state={"momentum": {"net": {"kernel": array + 2}, "head": {"prototypes": array + 3}}},
        loss_state={},
        counters={"best_eer": jnp.float32(1)},
    )


def _size_alone(path: Path) -> list[object]:
    return [path.stat().st_size, ""]


def _without_hashes() -> contextlib.AbstractContextManager[object]:
    return mock.patch("mqmha_jax.runs.manifest.size_and_hash", _size_alone)


def _measure(state: TrainState, directory: Path) -> dict[str, float]:
    """Measures the seconds of each part."""
    times = {}
    with Checkpoints(directory, keep=1) as checkpoints:
        start = time.perf_counter()
        checkpoints.save(state)
        times["save returns"] = time.perf_counter() - start
        checkpoints.wait()
        times["save is complete"] = time.perf_counter() - start
        start = time.perf_counter()
        jax.block_until_ready(checkpoints.restore(state))
        times["load all"] = time.perf_counter() - start
        start = time.perf_counter()
        jax.block_until_ready(checkpoints.restore_network(state.network())[0])
        times["load the network"] = time.perf_counter() - start
    return times


@click.command()
@click.option("--megabytes", default=300, show_default=True, help="Size of the state.")
@click.option("--rounds", default=5, show_default=True, help="Number of measurements with and without hashes.")
def main(megabytes: int, rounds: int) -> None:
    """Measure with and without hashes in turns."""
    state = _make_state(megabytes)
    times: dict[str, dict[str, list[float]]] = {way: defaultdict(list) for way in ("with", "without")}
    for index in range(rounds + 1):
        for way in times:
            directory = Path(tempfile.mkdtemp(prefix="checkpoint-hashes-"))
            try:
                with contextlib.nullcontext() if way == "with" else _without_hashes():
                    measured = _measure(state, directory)
            finally:
                shutil.rmtree(directory)
            for part, seconds in measured.items():
                if index:  # the first round warms up
                    times[way][part].append(seconds)
    medians = {way: {part: round(statistics.median(all_), 3) for part, all_ in of.items()} for way, of in times.items()}
    for part in medians["with"]:
        click.echo(
            f"{part:18} {medians['without'][part]:.3f} s without hashes, {medians['with'][part]:.3f} s with them"
        )
    keep("checkpoint_hashes", {"megabytes": megabytes, "rounds": rounds, "seconds": medians})


if __name__ == "__main__":
    main()
