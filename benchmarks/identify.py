"""One recording against a million enrolled speakers: time and memory of a search, and of loading the store.

    python benchmarks/identify.py [--speakers 1000000] [--dimension 256] [--directory DIR]

The store holds random embeddings, one for each speaker. The search is ``SpeakerStore``'s: exact products with all
speakers in float32, the probability of each from a calibration, and the five nearest. A memory copy of the same array
shows what the machine's memory allows.
"""

import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
from record import keep

from mqmha_jax.config import FbankSpec
from mqmha_jax.evaluation.scoring.calibration import Calibration
from mqmha_jax.store.decide import Measures, Rule
from mqmha_jax.store.files import ROWS_AT_ONCE, Network, read_blocks, read_state, write_state
from mqmha_jax.store.roster import Roster
from mqmha_jax.store.search import compute_centres

RUNS = 20


@click.command(context_settings={"show_default": True})
@click.option("--speakers", default=1_000_000)
@click.option("--dimension", default=256)
@click.option("--directory", type=click.Path(path_type=Path), help="Where the store is written; default: temporary.")
@click.option("--record/--no-record", default=True, help="Append to results/identify.jsonl.")
def main(speakers: int, dimension: int, directory: Path | None, record: bool) -> None:
    """Measure and print; record unless told otherwise."""
    folder = Path(tempfile.mkdtemp(dir=directory))
    try:
        figures = measure(folder, speakers, dimension)
    finally:
        shutil.rmtree(folder)
    for name, value in figures.items():
        click.echo(f"{name:24} {value}")
    if record:
        keep("identify", figures)


def measure(folder: Path, speakers: int, dimension: int) -> dict[str, float]:
    """Writes, loads and searches a store."""
    network = Network("0" * 64, dimension, FbankSpec(), "random", "", -1)
    start = time.perf_counter()
    write_state(folder, 0, network, make_roster(speakers), make_vectors(speakers, dimension))
    written = time.perf_counter() - start
    start = time.perf_counter()
    stored = read_state(folder)
    centres = compute_centres(read_blocks(stored.vectors), stored.roster, np.zeros(dimension, np.float32))
    loaded = time.perf_counter() - start
    query = centres.vectors[speakers // 2]
    measures = Measures(0.0, 1.0)
    threshold, calibrated = Rule(None, 0.5), Rule(Calibration(("score",), (20.0,), -8.0, 0.05), None)
    by_threshold = timed(lambda: threshold.decide(centres.vectors @ query, centres, measures, 5))
    by_calibration = timed(lambda: calibrated.decide(centres.vectors @ query, centres, measures, 5))
    assert calibrated.decide(centres.vectors @ query, centres, measures, 5).nearest[0] == speakers // 2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    half = len(centres.vectors) // 4
    target = np.empty((half, dimension), np.float32)
    copied = timed(lambda: np.copyto(target, centres.vectors[:half]))
    return {
        "speakers": speakers,
        "dimension": dimension,
        "search_ms": round(by_threshold[0], 1),
        "search_fastest_ms": round(by_threshold[1], 1),
        "calibrated_ms": round(by_calibration[0], 1),
        "calibrated_fastest_ms": round(by_calibration[1], 1),
        "copy_quarter_ms": round(copied[0], 1),
        "load_s": round(loaded, 2),
        "write_s": round(written, 2),
        "peak_gb": round(peak, 2),
    }


def make_roster(speakers: int) -> Roster:
    """One recording for each speaker."""
    names = tuple(f"speaker {i:07d}" for i in range(speakers))
    paths = tuple(f"calls/2026/speaker{i:07d}.wav" for i in range(speakers))
    ones = np.ones(speakers, np.float32)
    return Roster(names, paths, np.arange(speakers, dtype=np.int32), ones, ones, np.zeros(speakers, np.int64))


def make_vectors(speakers: int, dimension: int) -> Iterator[np.ndarray]:
    """Yields blocks of random embeddings."""
    rng = np.random.default_rng(0)
    for start in range(0, speakers, ROWS_AT_ONCE):
        yield rng.standard_normal((min(ROWS_AT_ONCE, speakers - start), dimension), np.float32)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Median and fastest of some runs, in ms, after one to warm up."""
    work()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        seconds.append(1000 * (time.perf_counter() - start))
    return statistics.median(seconds), min(seconds)


if __name__ == "__main__":
    main()
