"""The JAX contenders of ``pooling.py``: our module, and the loop over heads and queries."""

from collections.abc import Callable
from pathlib import Path

import click
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from race import serve

from mqmha_jax.models.pooling import MQMHA

HEADS, QUERIES, VARIANCE_FLOOR = 16, 4, 1e-7


def ours(frames: Array, scorers: Array, mask: Array) -> Array:
    """The module."""
    module = MQMHA(heads=HEADS, queries=QUERIES)
    return module.apply({"params": {"score": {"kernel": scorers[..., None]}}}, frames, mask)


def loop(frames: Array, scorers: Array, mask: Array) -> Array:
    """One query and head after another, as if all frames were valid."""
    statistics = []
    for query in range(QUERIES):
        for head, part in enumerate(jnp.split(frames, HEADS, axis=2)):
            weights = jax.nn.softmax(part @ scorers[query, head], axis=1)[..., None]
            mean = (weights * part).sum(axis=1)
            variance = (weights * part**2).sum(axis=1) - mean**2
            statistics += [mean, jnp.sqrt(jnp.maximum(variance, VARIANCE_FLOOR))]
    return jnp.concatenate(statistics, axis=1)


WAYS: dict[str, Callable[[Array, Array, Array], Array]] = {"ours": ours, "loop": loop}


@click.command()
@click.argument("way", type=click.Choice(tuple(WAYS)))
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.argument("name")
def main(way: str, folder: Path, name: str) -> None:
    """Save the result of WAY on the task in FOLDER as NAME, then take turns."""
    task = np.load(folder / "task.npz")
    frames, scorers, gradient = (jnp.asarray(task[key]) for key in ("frames", "scorers", "gradient"))
    mask = jnp.ones(frames.shape[:2], bool)

    @jax.jit
    def step(frames: Array, scorers: Array, mask: Array, gradient: Array) -> tuple[Array, tuple[Array, Array]]:
        pooled, backward = jax.vjp(lambda frames, scorers: WAYS[way](frames, scorers, mask), frames, scorers)
        return pooled, backward(gradient)

    def work() -> tuple[Array, tuple[Array, Array]]:
        return jax.block_until_ready(step(frames, scorers, mask, gradient))

    def save(result: tuple[Array, tuple[Array, Array]]) -> None:
        pooled, (of_frames, of_scorers) = result
        np.savez(folder / name, pooled=pooled, frames=of_frames, scorers=of_scorers)

    serve(work, save, {"version": jax.__version__, "device": jax.devices()[0].device_kind})


if __name__ == "__main__":
    main()
