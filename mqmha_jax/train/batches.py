"""This process's batches of a run, from the first step on."""

import contextlib
import os
from collections.abc import Iterator

import jax
from jax.sharding import Mesh

from mqmha_jax.config import Config
from mqmha_jax.data.joined_shards import TrainingShards
from mqmha_jax.data.noise_and_rooms import NoiseAndRooms
from mqmha_jax.data.train_pipeline import train_batches
from mqmha_jax.data.workers import require_live_workers
from mqmha_jax.errors import UserError
from mqmha_jax.parallel import local_rows
from mqmha_jax.types import Batch


@contextlib.contextmanager
def open_batches(
    config: Config, shards: TrainingShards, noise_and_rooms: NoiseAndRooms | None, first_step: int, mesh: Mesh
) -> Iterator[Iterator[Batch]]:
    """Yields the batches of this process; its threads and workers end when the context ends.

    Args:
      config: the experiment.
      shards: the training shards.
      noise_and_rooms: what the step adds; None: nothing.
      first_step: steps done before.
      mesh: the devices, which hold a part of every batch each.

    Raises:
      UserError: options that do not fit the shards; while iterating, a damaged record or a lost worker.
    """
    batches = train_batches(
        shards,
        config.data,
        seed=config.train.seed,
        first_step=first_step,
        rows=local_rows(config.data.batch_size, mesh),
        noise_and_rooms=noise_and_rooms,
    )
    try:
        yield require_live_workers(batches, config.data.num_workers)
    finally:
        batches.close()


def check_batch_memory(config: Config) -> None:
    """Refuses a batch whose frames alone exceed the memory of this machine: filling it would end other programs too.

    Raises:
      UserError: the share of this process is larger than the machine's memory.
    """
    rows = config.data.batch_size // jax.process_count()
    needed = 4 * rows * config.data.crop_frames * config.fbank.num_features
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        raise UserError(
            f"data.batch_size={config.data.batch_size} with data.crop_frames={config.data.crop_frames} is "
            f"{needed / 1e9:,.0f} GB of frames per process, and this machine has {present / 1e9:,.0f} GB of memory. "
            "Lower data.batch_size, e.g. to 64."
        )
