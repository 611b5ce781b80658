"""Training data of a run: its shards, and this process's batches from the first step on."""

import contextlib
from collections.abc import Iterator

import jax

from mqmha_jax.config import Config
from mqmha_jax.config_io import require_same_fbank
from mqmha_jax.data.noise_and_rooms import NoiseAndRooms
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.data.train_pipeline import train_batches
from mqmha_jax.data.workers import require_live_workers
from mqmha_jax.errors import UserError
from mqmha_jax.types import Batch


def open_training_shards(config: Config) -> FbankShards:
    """Opens the shards of ``data.train``.

    Raises:
      UserError: none are named, they are missing or damaged, or they have another filterbank than the configuration.
    """
    if not config.data.train:
        raise UserError(
            "data.train is not set: give the training shards, data.train=DIR (see python -m data_prep --help)."
        )
    shards = open_shards(config.data.train, original_speed_only=config.data.original_speed_only)
    require_same_fbank(config.fbank, shards.spec, f"The training shards in {config.data.train}")
    return shards


@contextlib.contextmanager
def open_batches(
    config: Config, shards: FbankShards, noise_and_rooms: NoiseAndRooms | None, first_step: int
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
        batch_size=config.data.batch_size,
        crop_frames=config.data.crop_frames,
        sampling=config.data.sampling,
        utterances_per_speaker=config.data.utterances_per_speaker,
        seed=config.train.seed,
        first_step=first_step,
        num_hosts=jax.process_count(),
        host=jax.process_index(),
        num_workers=config.data.num_workers,
        read_threads=config.data.read_threads,
        noise_and_rooms=noise_and_rooms,
    )
    try:
        yield require_live_workers(batches, config.data.num_workers)
    finally:
        batches.close()
