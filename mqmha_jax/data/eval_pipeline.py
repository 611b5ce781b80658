"""Batches of whole utterances for extraction: similar lengths together, padded to one of a few shapes.

Utterances stay whole up to ``MAX_FRAMES``. Masks keep the padding from changing an embedding. Every shape costs a
compilation, so ``batch_plan.py`` bounds their number.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from mqmha_jax.data.batch_plan import FRAMES_PER_BATCH, MAX_FRAMES, PlannedBatch, plan_batches

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
    index: Int32[np.ndarray, " B"]  # type: ignore[assignment]  # hides tuple.index, which nothing here uses


def eval_batches(
    source: FbankSource,
    *,
    frames_per_batch: int = FRAMES_PER_BATCH,
    max_frames: int = MAX_FRAMES,
    batch_multiple: int = 1,
    num_hosts: int = 1,
    host: int = 0,
) -> Iterator[EvalBatch]:
    """Yields every utterance of a source once, in batches of similar lengths; threads read ahead.

    Args:
      source: N utterances.
      frames_per_batch: largest ``B * T``, unless the smallest B exceeds it.
      max_frames: a longer utterance is cut to its middle ``max_frames`` frames.
      batch_multiple: every B is a multiple of it, e.g. the number of devices.
      num_hosts, host: this host reads and gets every num_hosts-th row of each batch, from row ``host`` on; the number
        of hosts divides ``batch_multiple``.

    Yields:
      Batches from the shortest to the longest, planned by ``plan_batches``; filler rows complete the last of a shape.

    Raises:
      UserError: an utterance has no frames or cannot be read.
    """
    plan: Sequence[PlannedBatch] = plan_batches(
        np.asarray(source.num_frames),
        frames_per_batch=frames_per_batch,
        max_frames=max_frames,
        batch_multiple=batch_multiple,
    )
    if len(plan) <= BATCHES_AHEAD:  # nothing to read ahead, and grain takes a while to load
        yield from (_read(source, planned, num_hosts, host) for planned in plan)
        return
    import grain

    yield from (
        grain.MapDataset.source(plan)
        .map(lambda planned: _read(source, planned, num_hosts, host))
        .to_iter_dataset(grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=BATCHES_AHEAD))
    )


def _read(source: FbankSource, planned: PlannedBatch, num_hosts: int, host: int) -> EvalBatch:
    index = np.full(planned.batch_size, -1, np.int32)
    index[: len(planned.indices)] = planned.indices
    index = index[host::num_hosts]
    # Filler is real speech, so that the network never sees an empty utterance.
    numbers = np.where(index >= 0, index, planned.indices[0]).tolist()
    read = {number: _cut_to_middle(source.fbank(number), planned.num_frames) for number in dict.fromkeys(numbers)}
    rows = [read[number] for number in numbers]
    fbank = np.zeros((len(index), planned.num_frames, rows[0].shape[1]), np.float32)
    for row, frames in enumerate(rows):
        fbank[row, : len(frames)] = frames
    return EvalBatch(fbank, np.array([len(frames) for frames in rows], np.int32), index)


def _cut_to_middle(frames: Float[np.ndarray, "T F"], max_frames: int) -> Float[np.ndarray, "t F"]:
    first = max(0, (len(frames) - max_frames) // 2)
    return frames[first : first + max_frames]
