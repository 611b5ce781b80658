"""Compares ways to embed whole utterances: length buckets, one by one, and padding all to the longest.

    python benchmarks/extraction.py RUN SHARDS ... [--limit 400]

Utterances are evenly spaced over all shards and read before the clock starts. The first pass compiles one program for
each batch shape. In the other passes the methods take turns, and the table shows the median times. All methods must
give the same embeddings. Appends the results to ``benchmarks/results/extraction.jsonl``.
"""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import jax
import numpy as np
from jax import Array
from record import keep

from mqmha_jax.data.batch_plan import FRAMES_PER_BATCH
from mqmha_jax.data.eval_pipeline import EvalBatch, eval_batches
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.evaluation.embeddings.embed import Embedder
from mqmha_jax.runs.load_network import load_network

PASSES = 5


class Speech(NamedTuple):
    """Utterances in memory."""

    fbanks: list[np.ndarray]

    @property
    def num_frames(self) -> np.ndarray:
        return np.array([len(fbank) for fbank in self.fbanks])

    def fbank(self, index: int) -> np.ndarray:
        return self.fbanks[index]


def buckets(speech: Speech) -> Iterator[EvalBatch]:
    """Batches utterances of similar length, as ours does."""
    return eval_batches(speech)


def one_by_one(speech: Speech) -> Iterator[EvalBatch]:
    """Takes every utterance alone at its own length, as is usual in the field."""
    for i, fbank in enumerate(speech.fbanks):
        yield EvalBatch(fbank[None].astype(np.float32), np.array([len(fbank)], np.int32), np.array([i], np.int32))


def longest(speech: Speech) -> Iterator[EvalBatch]:
    """Batches utterances in list order, padded to the longest of all; batches have as many frames as ours."""
    length = int(speech.num_frames.max())
    rows = max(1, FRAMES_PER_BATCH // length)
    for start in range(0, len(speech.fbanks), rows):
        index = np.arange(start, start + rows)
        chosen = np.minimum(index, len(speech.fbanks) - 1)
        fbank = np.zeros((rows, length, speech.fbanks[0].shape[1]), np.float32)
        for row, i in enumerate(chosen):
            fbank[row, : len(speech.fbanks[i])] = speech.fbanks[i]
        filled = np.where(index < len(speech.fbanks), index, -1).astype(np.int32)
        yield EvalBatch(fbank, speech.num_frames[chosen].astype(np.int32), filled)


METHODS = {method.__name__: method for method in (one_by_one, longest, buckets)}


class Pass(NamedTuple):
    """One pass over the utterances."""

    seconds: float
    units: np.ndarray
    shapes: int
    frames: int


def run(embedder: Embedder, speech: Speech, name: str) -> Pass:
    """Embeds all utterances; as in ``embed``, the host makes a batch while the device computes the previous one."""
    shapes: set[tuple[int, ...]] = set()
    frames = 0
    found: list[tuple[np.ndarray, ...]] = []
    start = time.perf_counter()
    pending: tuple[Array, Array] | None = None
    for batch in METHODS[name](speech):
        shapes.add(batch.fbank.shape)
        frames += batch.fbank.shape[0] * batch.fbank.shape[1]
        output = embedder(batch)
        if pending:
            found.append(tuple(map(np.asarray, pending)))
        pending = output
    if pending:
        found.append(tuple(map(np.asarray, pending)))
    seconds = time.perf_counter() - start
    index, vectors = (np.concatenate(part) for part in zip(*found, strict=True))
    units = np.empty((len(speech.fbanks), vectors.shape[1]), np.float32)
    real = index >= 0
    units[index[real]] = vectors[real] / np.linalg.norm(vectors[real], axis=1, keepdims=True)
    return Pass(seconds, units, len(shapes), frames)


@click.command()
@click.argument("workdir", type=click.Path(path_type=Path, exists=True))
@click.argument(
    "directories", metavar="SHARDS...", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True
)
@click.option("--limit", default=400, show_default=True, help="Number of utterances.")
def main(workdir: Path, directories: tuple[Path, ...], limit: int) -> None:
    """Measure utterances a second, compilations and differences of three ways to embed the utterances in SHARDS."""
    network = load_network(workdir)
    embedder = Embedder(network.net, network.variables)
    every = [(shards, i) for shards in map(open_shards, directories) for i in range(len(shards))]
    chosen = np.unique(np.linspace(0, len(every) - 1, limit).round().astype(int))
    speech = Speech([every[i][0].fbank(every[i][1]) for i in chosen])
    with jax.default_matmul_precision("highest"):
        first = {name: run(embedder, speech, name) for name in METHODS}
        timed: dict[str, list[float]] = {name: [] for name in METHODS}
        for _ in range(PASSES):
            for name in METHODS:
                timed[name].append(run(embedder, speech, name).seconds)
    real = int(speech.num_frames.sum())
    record = {
        "device": jax.devices()[0].device_kind,
        "run": workdir.name,
        "utterances": len(speech.fbanks),
        "frames": [int(np.quantile(speech.num_frames, q)) for q in (0, 0.5, 1)],
        "methods": {
            name: {
                "utterances_per_second": len(speech.fbanks) / statistics.median(timed[name]),
                "first_pass_s": first[name].seconds,
                "compilations": first[name].shapes,
                "padding": first[name].frames / real - 1,
                "largest_difference": float(np.abs(first[name].units - first["one_by_one"].units).max()),
            }
            for name in METHODS
        },
    }
    click.echo(f"{'':12s}{'utt/s':>8s}{'first pass s':>14s}{'compilations':>14s}{'padding':>9s}{'difference':>12s}")
    for name, own in record["methods"].items():
        click.echo(
            f"{name:12s}{own['utterances_per_second']:8.1f}{own['first_pass_s']:14.1f}{own['compilations']:14d}"
            f"{own['padding']:9.0%}{own['largest_difference']:12.1e}"
        )
    keep("extraction", record)


if __name__ == "__main__":
    main()
