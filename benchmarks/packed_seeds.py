"""Compares several seeds of one experiment in one program (vmap over states and batches) with one after the other.

    python benchmarks/packed_seeds.py                # seconds per step of all seeds together, and their ratio

Both do the same steps of a small TDNN on random frames, in turns within one process; the script compares medians and
appends the result to benchmarks/results/packed_seeds.jsonl.
"""

import time
from collections.abc import Callable
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np
from record import keep

from mqmha_jax.config import Config
from mqmha_jax.config_io import load_config, with_overrides
from mqmha_jax.losses import build_loss
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.runs.state import initial_state
from mqmha_jax.train import schedules
from mqmha_jax.train.optim import build_optimizer
from mqmha_jax.train.step import build_train_step

SPEAKERS = 627
_WARM_UP = 1


@click.command(context_settings={"show_default": True})
@click.option("--seeds", type=click.IntRange(2), default=3, help="Number of seeds.")
@click.option("--steps", type=click.IntRange(1), default=7, help="Number of timed steps.")
@click.option("--batch-size", type=int, default=32, help="Examples per seed.")
@click.option("--channels", type=int, default=128, help="Width of the TDNN.")
def main(seeds: int, steps: int, batch_size: int, channels: int) -> None:
    """Measure, print and record."""
    size = [f"data.batch_size={batch_size}", f"model.encoder.channels={channels}", "data.crop_frames=150"]
    config = load_config("laptop", size)
    states, step = _experiment(config, seeds)
    batches = [_batch(config, seed) for seed in range(seeds)]
    alone = jax.jit(step, donate_argnums=0)
    packed = jax.jit(jax.vmap(step), donate_argnums=0)
    numbers = jnp.arange(seeds, dtype=jnp.uint32)
    stacked = [jax.tree.map(lambda *x: jnp.stack(x), *trees) for trees in (states, batches)]

    def one_after_another() -> None:
        for i in range(seeds):
            states[i], _ = alone(states[i], batches[i], numbers[i])
        jax.block_until_ready(states)

    def together() -> None:
        stacked[0], _ = packed(*stacked, numbers)
        jax.block_until_ready(stacked[0])

    seconds: dict[str, list[float]] = {"one_after_another": [], "packed": []}
    for _ in range(_WARM_UP + steps):
        seconds["one_after_another"].append(_seconds(one_after_another))
        seconds["packed"].append(_seconds(together))
    medians = {name: float(np.median(times[_WARM_UP:])) for name, times in seconds.items()}
    ratio = medians["packed"] / medians["one_after_another"]
    click.echo(f"{seeds} seeds, a step of each: {medians['one_after_another']:.3f} s one after another")
    click.echo(f"the same packed: {medians['packed']:.3f} s ({ratio:.2f} x)")
    record = {
        "device": jax.devices()[0].device_kind,
        "seeds": seeds,
        "overrides": size,
        "steps": steps,
        "median_seconds": medians,
        "packed_over_one_after_another": ratio,
    }
    keep("packed_seeds", record)


def _experiment(config: Config, seeds: int) -> tuple[list[Any], Callable[..., Any]]:
    """Makes a state for each seed, and the step."""
    net = build_speaker_net(config.model)
    loss = build_loss(config.loss, num_speakers=SPEAKERS, embedding_dim=config.model.embedding_dim)
    rate = schedules.learning_rate(config.optimizer, config.train.steps)
    optimizer = build_optimizer(config.optimizer, config.train.steps)
    step = build_train_step(
        config,
        net=net,
        loss=loss,
        optimizer=optimizer,
        learning_rate=rate,
        margin_progress=schedules.margin_progress(config.loss, config.train.steps),
        unroll=True,
    )
    seeded = [with_overrides(config, [f"train.seed={seed}"]) for seed in range(seeds)]
    return [initial_state(one, net, loss, optimizer) for one in seeded], step


def _batch(config: Config, seed: int) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    rows, frames = config.data.batch_size, config.data.crop_frames
    return {
        "fbank": jnp.asarray(rng.normal(size=(rows, frames, config.fbank.num_features)), jnp.float16),
        "num_frames": jnp.full(rows, frames, jnp.int32),
        "speaker": jnp.asarray(rng.integers(0, SPEAKERS, rows), jnp.int32),
        "example": jnp.arange(rows, dtype=jnp.uint32),
    }


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
