"""Batches of whole utterances for extraction: similar lengths together, padded to one of a few shapes.

The field embeds whole utterances one by one. Here they are whole as well, up to ``MAX_FRAMES``; masks keep the padding
from changing an embedding, and the fixed set of shapes bounds the number of compilations.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import grain
import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from mqmha_jax.errors import UserError

MAX_FRAMES = 12_000
"""Two minutes at 100 frames a second; VoxCeleb1 has a handful of utterances above it, none above 145 s."""

SMALLEST_BUCKET_FRAMES = 100
BUCKET_GROWTH = 1.2
"""Ratio of neighbouring lengths: a tenth of padding on average, and 28 buckets from 100 to 12,000 frames."""

MOST_PADDING = 2.0
"""An utterance that waits for its batch to fill is not padded to more than so many times its length."""

FRAMES_PER_BATCH = 25_600
"""128 utterances of 2 s: 8 MB of filterbank."""

BATCHES_AHEAD = 2
READ_THREADS = 2


@runtime_checkable
class FbankSource(Protocol):
    """N utterances; ``FbankShards`` is one, audio files can be another."""

    @property
    def num_frames(self) -> Int[np.ndarray, " N"]:
        """Length of each utterance."""

    def fbank(self, index: int) -> Float[np.ndarray, "T F"]:
        """All frames of one utterance."""


class EvalBatch(NamedTuple):
    """Utterances padded to a common length.

    Attributes:
      fbank: frames, zero after the end of an utterance.
      num_frames: valid frames of each row.
      index: which utterance of the source a row is; -1 marks a filler row, a copy of the first one.
    """

    fbank: Float32[np.ndarray, "B T F"]
    num_frames: Int32[np.ndarray, " B"]
    index: Int32[np.ndarray, " B"]  # type: ignore[assignment]  # hides tuple.index, of no use here


class PlannedBatch(NamedTuple):
    """Shape and utterances of a batch that is not read yet: ``indices`` fill the first of ``batch_size`` rows."""

    batch_size: int
    num_frames: int
    indices: Int32[np.ndarray, " rows"]


def length_buckets(num_frames: Int[np.ndarray, " N"], *, max_frames: int = MAX_FRAMES) -> tuple[int, ...]:
    """The padded lengths in use, in rising order.

    Args:
      num_frames: lengths of the utterances; longer ones count as ``max_frames``.
      max_frames: largest length.

    Returns:
      Those terms of one geometric series (from ``SMALLEST_BUCKET_FRAMES`` by ``BUCKET_GROWTH``, rounded up to multiples
      of 8, ended by ``max_frames``) to which an utterance is padded. The series does not depend on the data, so other
      lists find their shapes compiled.
    """
    series: list[int] = []
    length = float(min(SMALLEST_BUCKET_FRAMES, max_frames))
    while length < max_frames:
        series.append(int(-(-length // 8) * 8))
        length *= BUCKET_GROWTH
    lengths = np.array(sorted({min(term, max_frames) for term in series} | {max_frames}))
    used = np.searchsorted(lengths, np.minimum(num_frames, max_frames))
    return tuple(int(length) for length in lengths[np.unique(used)])


def plan_batches(
    num_frames: Int[np.ndarray, " N"],
    *,
    frames_per_batch: int = FRAMES_PER_BATCH,
    max_frames: int = MAX_FRAMES,
    batch_multiple: int = 1,
) -> list[PlannedBatch]:
    """Puts every utterance into one batch, full ones where possible.

    What does not fill a batch of its bucket waits for the next longer one, as long as that does not pad it to more than
    ``MOST_PADDING`` times its length; then it goes into a smaller batch, of a power of two rows. So a list of a hundred
    utterances costs no more than their frames, and there are at most two shapes per bucket and mostly one.

    Args:
      num_frames: lengths of the utterances.
      frames_per_batch: ``B * T`` stays at or below it where B can be.
      max_frames: as for ``eval_batches``.
      batch_multiple: every B is a multiple of it, e.g. the number of devices.

    Raises:
      UserError: an utterance has no frames, or an option is below 1.
    """
    for name, value in (
        ("frames_per_batch", frames_per_batch),
        ("max_frames", max_frames),
        ("batch_multiple", batch_multiple),
    ):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be at least 1.")
    if not len(num_frames):
        return []
    if num_frames.min() < 1:
        raise UserError(f"Utterance {int(num_frames.argmin())} of the source has no frames; leave it out.")
    buckets = length_buckets(num_frames, max_frames=max_frames)
    bucket_of = np.searchsorted(buckets, np.minimum(num_frames, max_frames))
    batches = []
    waiting = np.empty(0, np.int32)
    for bucket, length in enumerate(buckets):
        batch_size = max(1, frames_per_batch // length // batch_multiple) * batch_multiple
        waiting = np.concatenate([waiting, np.flatnonzero(bucket_of == bucket).astype(np.int32)])
        while len(waiting) >= batch_size:
            batches.append(PlannedBatch(batch_size, length, waiting[:batch_size]))
            waiting = waiting[batch_size:]
        is_last = bucket + 1 == len(buckets)
        if len(waiting) and (is_last or buckets[bucket + 1] > MOST_PADDING * num_frames[waiting].min()):
            groups = -(-len(waiting) // batch_multiple)
            smaller = batch_multiple << (groups - 1).bit_length()
            batches.append(PlannedBatch(min(batch_size, smaller), length, waiting))
            waiting = waiting[:0]
    return batches


def eval_batches(
    source: FbankSource,
    *,
    frames_per_batch: int = FRAMES_PER_BATCH,
    max_frames: int = MAX_FRAMES,
    batch_multiple: int = 1,
    num_hosts: int = 1,
    host: int = 0,
) -> Iterator[EvalBatch]:
    """Every utterance of a source once, whole, in batches of similar lengths; read ahead by threads.

    Args:
      source: N utterances.
      frames_per_batch: ``B * T`` of a batch stays at or below it where B can be.
      max_frames: of a longer utterance only the middle ``max_frames`` frames are taken.
      batch_multiple: every B is a multiple of it, e.g. the number of devices.
      num_hosts, host: this host reads and gets every num_hosts-th row of each batch, from row ``host`` on; the number
        of hosts divides ``batch_multiple``.

    Returns:
      Batches from the shortest bucket to the longest, planned by ``plan_batches``; filler rows complete smaller ones.

    Raises:
      UserError: an utterance has no frames or can not be read.
    """
    plan: Sequence[PlannedBatch] = plan_batches(
        np.asarray(source.num_frames),
        frames_per_batch=frames_per_batch,
        max_frames=max_frames,
        batch_multiple=batch_multiple,
    )
    yield from (
        grain.MapDataset.source(plan)
        .map(lambda planned: _read(source, planned, num_hosts, host))
        .to_iter_dataset(grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=BATCHES_AHEAD))
    )


def _read(source: FbankSource, planned: PlannedBatch, num_hosts: int, host: int) -> EvalBatch:
    index = np.full(planned.batch_size, -1, np.int32)
    index[: len(planned.indices)] = planned.indices
    index = index[host::num_hosts]
    # Filler is real speech, so that nothing in the network meets an empty utterance.
    numbers = np.where(index >= 0, index, planned.indices[0]).tolist()
    read = {number: _middle(source.fbank(number), planned.num_frames) for number in dict.fromkeys(numbers)}
    rows = [read[number] for number in numbers]
    fbank = np.zeros((len(index), planned.num_frames, rows[0].shape[1]), np.float32)
    for row, frames in enumerate(rows):
        fbank[row, : len(frames)] = frames
    return EvalBatch(fbank, np.array([len(frames) for frames in rows], np.int32), index)


def _middle(frames: Float[np.ndarray, "T F"], max_frames: int) -> Float[np.ndarray, "t F"]:
    first = max(0, (len(frames) - max_frames) // 2)
    return frames[first : first + max_frames]
