"""This process's batches of a run, from the first step on."""

import contextlib
from collections.abc import Iterator

import jax

from mqmha_jax.config import Config
from mqmha_jax.data.joined_shards import TrainingShards
from mqmha_jax.data.noise_and_rooms import NoiseAndRooms
from mqmha_jax.data.train_pipeline import train_batches
from mqmha_jax.data.workers import require_live_workers
from mqmha_jax.types import Batch


@contextlib.contextmanager
def open_batches(
    config: Config, shards: TrainingShards, noise_and_rooms: NoiseAndRooms | None, first_step: int
) -> Iterator[Iterator[Batch]]:
    """While inside, the batches of this process; threads and workers end with it.

    Args:
      config: the experiment.
      shards: the training shards.
      noise_and_rooms: what the step adds; None: nothing.
      first_step: steps done before.

    Raises:
      UserError: options that do not fit the shards; while iterating, a damaged record or a lost worker.
    """
    batches = train_batches(
        shards,
        config.data,
        seed=config.train.seed,
        first_step=first_step,
        num_hosts=jax.process_count(),
        host=jax.process_index(),
        noise_and_rooms=noise_and_rooms,
    )
    try:
        yield require_live_workers(batches, config.data.num_workers)
    finally:
        batches.close()
