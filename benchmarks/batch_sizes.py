"""Measures how long an encoder takes for an utterance, by the number of utterances in a batch.

    python benchmarks/batch_sizes.py resnet34 campplus tdnn ecapa512 --rows 1 --rows 4 --rows 16 --rows 64

All programs are compiled first; then the batch sizes take turns in one process. Appends the medians to
``results/batch_sizes.jsonl``.
"""

import statistics
import time
from collections.abc import Sequence

import click
import jax
import jax.numpy as jnp
import numpy as np
from export import random_network
from record import keep
from tabulate import tabulate

from mqmha_jax.models.speaker_net import build_speaker_net

_UTTERANCES = 16  # at least, in a turn


@click.command(context_settings={"show_default": True})
@click.argument("encoders", nargs=-1, required=True)
@click.option("--rows", type=click.IntRange(1), multiple=True, default=(1, 2, 4, 8, 16, 64), help="Utterances a batch.")
@click.option("--frames", type=click.IntRange(1), default=300, help="Frames of an utterance.")
@click.option("--rounds", type=click.IntRange(1), default=4, help="Turns of each batch size.")
def main(encoders: tuple[str, ...], rows: tuple[int, ...], frames: int, rounds: int) -> None:
    """Measure ENCODERS with random weights, print and record."""
    for encoder in encoders:
        found = milliseconds_per_utterance(encoder, rows, frames, rounds)
        click.echo(tabulate([[encoder, *found.values()]], ["ms per utterance", *map(str, rows)]))
        keep("batch_sizes", {"encoder": encoder, "frames": frames, "rounds": rounds, "milliseconds": found})


def milliseconds_per_utterance(encoder: str, rows: Sequence[int], frames: int, rounds: int) -> dict[int, float]:
    """Returns the median of each batch size."""
    config, variables = random_network(encoder)
    net = build_speaker_net(config.model)
    embed = jax.jit(lambda fbank, mask: net.apply(variables, fbank, mask, train=False))
    rng = np.random.default_rng(0)
    batches = {}
    for number in rows:
        fbank = jnp.asarray(rng.standard_normal((number, frames, config.fbank.num_features), np.float32))
        batches[number] = fbank, jnp.ones(fbank.shape[:2], bool)
        jax.block_until_ready(embed(*batches[number]))
    times: dict[int, list[float]] = {number: [] for number in rows}
    for _ in range(rounds):
        for number, batch in batches.items():
            calls = max(1, _UTTERANCES // number)
            start = time.perf_counter()
            for _ in range(calls):
                jax.block_until_ready(embed(*batch))
            times[number].append((time.perf_counter() - start) / calls / number)
    return {number: round(1e3 * statistics.median(own), 1) for number, own in times.items()}


if __name__ == "__main__":
    main()
