"""Training batches as a function of the seed and the step.

Sample ``i`` of the endless global sequence, its utterance and its crop, depends only on the seed and ``i``. Row ``r``
of step ``k`` holds sample ``k * batch_size + r``, and each process makes the rows of its own devices. So a run resumes
at any step without saved state, and processes and workers change no row.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import NotRequired, TypedDict

import grain
import numpy as np
from jaxtyping import Float16

from mqmha_jax.config import DataConfig
from mqmha_jax.data.joined_shards import TrainingShards
from mqmha_jax.data.noise_and_rooms import SILENCE, NoiseAndRooms, read_powers
from mqmha_jax.data.sampling import draw_utterances, speaker_exponent
from mqmha_jax.data.workers import prepare_worker
from mqmha_jax.errors import UserError

BATCHES_AHEAD = 4
"""Batches that a process makes ahead of demand; with more threads than this, one for each thread."""

LARGEST_SEED = 2**32 - 1


class Example(TypedDict):
    """One row of a ``Batch``."""

    fbank: Float16[np.ndarray, "T F"]
    num_frames: np.int32
    speaker: np.int32
    example: np.uint32
    noise: NotRequired[Float16[np.ndarray, "T F"]]
    decay: NotRequired[Float16[np.ndarray, "L F"]]


def train_batches(
    shards: TrainingShards,
    data: DataConfig,
    *,
    seed: int,
    first_step: int,
    rows: Sequence[int] | None = None,
    noise_and_rooms: NoiseAndRooms | None = None,
) -> grain.DatasetIterator:
    """Iterates over this process's rows of every batch from ``first_step`` on, without end.

    Args:
      shards: N utterances of C speakers.
      data: how they are drawn (see ``draw_utterances``). A row is a crop of ``T = data.crop_frames`` frames from a
        random place; shorter utterances repeat from their start. A batch, over all processes, holds
        ``data.batch_size / U`` speakers with ``U = data.utterances_per_speaker`` crops each, in adjacent rows; more
        than 1 needs ``data.sampling="speaker"`` or ``data.speaker_exponent``, and then no speaker is twice in a batch
        whose share of the draws is at most ``U / data.batch_size``. ``data.num_workers`` processes make batches; 0:
        threads of this process. (More need absl's flags parsed, for grain.) The ``data.read_threads`` of each release
        Python's lock to decompress and to wait.
      seed: seed of order, utterances and crops; 0 to 2**32 - 1.
      first_step: number of the first batch; batch k is the same for every ``first_step <= k``.
      rows: which rows of each batch to make, B of them, from 0; None: all.
      noise_and_rooms: draws a noise and a room for every example; None: plain crops.

    Returns:
      An iterator of ``Batch``, NumPy arrays: ``fbank`` float16 ``[B,T,F]`` (not normalised), ``num_frames`` (all T),
      ``speaker`` (class), ``example`` (index in the global sequence modulo 2**32; see ``example_utterances``). Its
      ``close()`` ends the threads and processes. With ``noise_and_rooms``, the same crops follow ``context_frames`` of
      context (silence before the start of the utterance), and batches hold the arrays of ``NoiseAndRoom``, stacked.

    Raises:
      UserError: options that do not fit each other or the shards; while iterating, a record that cannot be read.
    """
    _check(shards, data, seed)
    rows = range(data.batch_size) if rows is None else rows
    examples = (
        draw_utterances(shards, data, seed)
        .map_with_index(_with_position)
        .random_map(_Crop(shards, data.crop_frames, noise_and_rooms), seed=seed)
    )
    # Batches are cut before workers share them out: batch() on the random-access MapDataset numbers whole batches, and
    # each worker takes every n-th. (On an IterDataset each worker would batch its own examples and lose its remainder.)
    return iter(
        grain.MapDataset.source(_Rows(examples, data.batch_size, tuple(rows)))
        .batch(len(rows))[first_step:]
        .to_iter_dataset(
            grain.ReadOptions(num_threads=data.read_threads, prefetch_buffer_size=max(BATCHES_AHEAD, data.read_threads))
        )
        .mp_prefetch(grain.MultiprocessingOptions(num_workers=data.num_workers), prepare_worker)
    )


def example_utterances(shards: TrainingShards, data: DataConfig, examples: Iterable[int], *, seed: int) -> list[str]:
    """Finds the utterances of examples, to report a bad batch by name.

    Args:
      shards, data, seed: as for ``train_batches``.
      examples: indices in the global sequence, which are a batch's ``example`` up to 2**32 samples.

    Returns:
      The id of the utterance of each.
    """
    sequence = draw_utterances(shards, data, seed)
    return [shards.utterance(int(sequence[example])) for example in examples]


class _Rows:
    """Some rows of every batch, one after another; a source of grain, which pickles it for worker processes."""

    def __init__(self, examples: grain.MapDataset, batch_size: int, rows: tuple[int, ...]) -> None:
        self._examples = examples
        self._batch_size = batch_size
        self._rows = rows

    def __len__(self) -> int:
        return len(self._examples) // self._batch_size * len(self._rows)

    def __getitem__(self, index: int) -> Example:
        step, row = divmod(index, len(self._rows))
        return self._examples[step * self._batch_size + self._rows[row]]


def _with_position(position: int, utterance: int) -> tuple[int, int]:
    return position, utterance


class _Crop:
    """Reads a random crop; a class, not a closure, because grain pickles it for worker processes."""

    def __init__(self, shards: TrainingShards, crop_frames: int, noise_and_rooms: NoiseAndRooms | None) -> None:
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


def _check(shards: TrainingShards, data: DataConfig, seed: int) -> None:
    if not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"train.seed is {seed}; it must lie between 0 and {LARGEST_SEED}.")
    per_speaker = data.utterances_per_speaker
    if data.batch_size % per_speaker:
        raise UserError(
            f"data.batch_size={data.batch_size} is not a multiple of data.utterances_per_speaker={per_speaker}; "
            "a batch holds that many utterances of each of its speakers. Change one of the two."
        )
    speaker_exponent(data)
    if per_speaker > 1:
        if data.sampling != "speaker" and data.speaker_exponent is None:
            raise UserError(
                f"data.utterances_per_speaker={per_speaker} needs data.sampling=speaker, not {data.sampling}, or a "
                "data.speaker_exponent: batches of P speakers with U utterances each draw speakers, not utterances."
            )
        _report_poor_speakers(shards, per_speaker)


def _report_poor_speakers(shards: TrainingShards, utterances_per_speaker: int) -> None:
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
