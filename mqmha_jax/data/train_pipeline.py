"""Training batches as a function of the seed and the step.

Sample ``i`` of the endless global sequence, its utterance and its crop, depends only on the seed and ``i``. Step ``k``
holds samples ``k * batch_size`` to ``(k + 1) * batch_size - 1``; host ``h`` of ``n`` takes every n-th of them, from the
h-th on. So a run resumes at any step without saved state, and hosts and workers change only the order of rows.
"""

import logging
from typing import Literal, NotRequired, TypedDict

import grain
import numpy as np
from jaxtyping import Float16

from mqmha_jax.data.noise_and_rooms import SILENCE, NoiseAndRooms, read_powers
from mqmha_jax.data.sampling import duration_sequence, speaker_sequence, utterance_sequence
from mqmha_jax.data.shard_reader import FbankShards
from mqmha_jax.data.workers import prepare_worker
from mqmha_jax.errors import UserError

BATCHES_AHEAD = 4
"""Batches that a process makes ahead of demand; with more threads than this, one for each thread."""

LARGEST_SEED = 2**32 - 1

Sampling = Literal["utterance", "duration", "speaker"]


class Example(TypedDict):
    """One row of a ``Batch``."""

    fbank: Float16[np.ndarray, "T F"]
    num_frames: np.int32
    speaker: np.int32
    example: np.uint32
    noise: NotRequired[Float16[np.ndarray, "T F"]]
    decay: NotRequired[Float16[np.ndarray, "L F"]]


def train_batches(
    shards: FbankShards,
    *,
    batch_size: int,
    crop_frames: int,
    sampling: Sampling,
    utterances_per_speaker: int,
    seed: int,
    first_step: int,
    num_hosts: int = 1,
    host: int = 0,
    num_workers: int = 0,
    read_threads: int = 4,
    noise_and_rooms: NoiseAndRooms | None = None,
) -> grain.DatasetIterator:
    """Iterates over this host's part of every batch from ``first_step`` on, without end.

    Args:
      shards: N utterances of C speakers.
      batch_size: examples per step over all hosts; each host yields ``B = batch_size / num_hosts`` of them.
      crop_frames: T, frames per example, at a random place; shorter utterances repeat from their start.
      sampling: ``"utterance"`` draws every utterance once per epoch; ``"duration"`` once for each crop that it holds;
        ``"speaker"`` draws every speaker equally often, and each speaker's utterances in turn in random order.
      utterances_per_speaker: U; a batch holds ``batch_size / U`` speakers, all different if there are that many, with U
        examples each. More than 1 needs ``sampling="speaker"``.
      seed: seed of order, utterances and crops; 0 to 2**32 - 1.
      first_step: number of the first batch; batch k is the same for every ``first_step <= k``.
      num_hosts: number of processes that share the batch.
      host: number of this process, from 0.
      num_workers: processes that make batches; 0: threads of this process. (More need absl's flags parsed, for grain.)
      read_threads: threads of each process that makes batches; they release Python's lock to decompress and to wait.
      noise_and_rooms: draws a noise and a room for every example; None: plain crops.

    Returns:
      An iterator of ``Batch``, NumPy arrays: ``fbank`` float16 ``[B,T,F]`` (not normalised), ``num_frames`` (all T),
      ``speaker`` (class), ``example`` (index in the global sequence modulo 2**32; see ``example_utterance``). Its
      ``close()`` ends the threads and processes. With ``noise_and_rooms``, the same crops follow ``context_frames`` of
      context (silence before the start of the utterance), and batches hold the arrays of ``NoiseAndRoom``, stacked.

    Raises:
      UserError: options that do not fit each other or the shards; while iterating, a record that cannot be read.
    """
    _check(shards, batch_size, crop_frames, sampling, utterances_per_speaker, seed, num_hosts, host)
    # Batches are cut before workers share them out: batch() on the random-access MapDataset numbers whole batches, and
    # each worker takes every n-th. (On an IterDataset each worker would batch its own examples and lose its remainder.)
    return iter(
        _utterances(shards, batch_size, crop_frames, sampling, utterances_per_speaker, seed)
        .map_with_index(_with_position)
        .random_map(_Crop(shards, crop_frames, noise_and_rooms), seed=seed)[host::num_hosts]
        .batch(batch_size // num_hosts)[first_step:]
        .to_iter_dataset(
            grain.ReadOptions(num_threads=read_threads, prefetch_buffer_size=max(BATCHES_AHEAD, read_threads))
        )
        .mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers), prepare_worker)
    )


def example_utterance(
    shards: FbankShards,
    example: int,
    *,
    batch_size: int,
    crop_frames: int,
    sampling: Sampling,
    utterances_per_speaker: int,
    seed: int,
) -> str:
    """Finds the utterance of an example, to report a bad batch by name.

    Args:
      shards, batch_size, crop_frames, sampling, utterances_per_speaker, seed: as for ``train_batches``.
      example: index in the global sequence, which is a batch's ``example`` up to 2**32 samples.

    Returns:
      The utterance's id.
    """
    sequence = _utterances(shards, batch_size, crop_frames, sampling, utterances_per_speaker, seed)
    return shards.utterance(int(sequence[example]))


def _utterances(
    shards: FbankShards, batch_size: int, crop_frames: int, sampling: Sampling, utterances_per_speaker: int, seed: int
) -> grain.MapDataset:
    if sampling == "utterance":
        return utterance_sequence(len(shards), seed)
    if sampling == "duration":
        return duration_sequence(shards.num_frames, crop_frames=crop_frames, seed=seed)
    return speaker_sequence(
        shards.speaker,
        speakers_per_batch=batch_size // utterances_per_speaker,
        utterances_per_speaker=utterances_per_speaker,
        seed=seed,
    )


def _with_position(position: int, utterance: int) -> tuple[int, int]:
    return position, utterance


class _Crop:
    """Reads a random crop; a class, not a closure, because grain pickles it for worker processes."""

    def __init__(self, shards: FbankShards, crop_frames: int, noise_and_rooms: NoiseAndRooms | None) -> None:
        self._shards = shards
        self._crop_frames = crop_frames
        self._noise_and_rooms = noise_and_rooms
        self._power = None if noise_and_rooms is None or not noise_and_rooms.needs_power else read_powers(shards)

    def __call__(self, position_and_utterance: tuple[int, int], rng: np.random.Generator) -> Example:
        position, utterance = position_and_utterance
        spare = max(0, int(self._shards.num_frames[utterance]) - self._crop_frames)
        first = int(rng.integers(spare + 1))
        context = 0 if self._noise_and_rooms is None else self._noise_and_rooms.context_frames
        silent = max(0, context - first)
        fbank = self._shards.crop(utterance, first - context + silent, self._crop_frames + context - silent)
        example: Example = {
            "fbank": np.pad(fbank, ((silent, 0), (0, 0)), constant_values=SILENCE) if silent else fbank,
            "num_frames": np.int32(self._crop_frames),
            "speaker": self._shards.speaker[utterance],
            # uint32, because JAX folds 32 bits into a key; 2**32 examples are 3,900 epochs of VoxCeleb2-dev.
            "example": np.uint32(position % 2**32),
        }
        if self._noise_and_rooms is not None:
            drawn = self._noise_and_rooms.draw(
                position,
                speech_power=0.0 if self._power is None else float(self._power[utterance]),
                num_frames=len(example["fbank"]),
                silent_frames=silent,
            )
            example = {**example, **drawn}
        return example


def _check(
    shards: FbankShards,
    batch_size: int,
    crop_frames: int,
    sampling: Sampling,
    utterances_per_speaker: int,
    seed: int,
    num_hosts: int,
    host: int,
) -> None:
    for name, value in (
        ("batch_size", batch_size),
        ("crop_frames", crop_frames),
        ("utterances_per_speaker", utterances_per_speaker),
    ):
        if value < 1:
            raise UserError(f"data.{name} is {value}; it must be at least 1.")
    if not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"train.seed is {seed}; it must lie between 0 and {LARGEST_SEED}.")
    if not 0 <= host < num_hosts:
        raise UserError(f"Host {host} of {num_hosts} does not exist; hosts are numbered from 0.")
    if batch_size % num_hosts:
        raise UserError(
            f"data.batch_size={batch_size} cannot be shared by {num_hosts} hosts; give a multiple of {num_hosts}."
        )
    if batch_size % utterances_per_speaker:
        raise UserError(
            f"data.batch_size={batch_size} is not a multiple of data.utterances_per_speaker={utterances_per_speaker}; "
            "a batch holds that many utterances of each of its speakers. Change one of the two."
        )
    if utterances_per_speaker > 1:
        if sampling != "speaker":
            raise UserError(
                f"data.utterances_per_speaker={utterances_per_speaker} needs data.sampling=speaker, not {sampling}: "
                "batches of P speakers with U utterances each draw speakers, not utterances."
            )
        _report_poor_speakers(shards, utterances_per_speaker)


def _report_poor_speakers(shards: FbankShards, utterances_per_speaker: int) -> None:
    """Warns of speakers with too few utterances; their examples are several crops of the same utterance."""
    counts = np.bincount(shards.speaker, minlength=len(shards.speakers))
    poor = np.flatnonzero(counts < utterances_per_speaker)
    if len(poor):
        logging.getLogger(__name__).warning(
            "%d of %d speakers in %s have fewer than %d utterances (%d have one), %s for instance; a batch takes "
            "several crops of the same utterance for them.",
            len(poor),
            len(shards.speakers),
            shards.directory,
            utterances_per_speaker,
            int((counts == 1).sum()),
            shards.speakers[poor[0]],
        )
