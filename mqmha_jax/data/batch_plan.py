"""Plans batches of utterances to embed: few shapes and little padding, found by dynamic programming.

Every shape costs a compilation, and every frame of padding costs the time of a real one. The plan sorts utterances by
length and splits them into groups, each padded to one length, so that the sum of both costs is smallest.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from mqmha_jax.errors import UserError

MAX_FRAMES = 12_000
"""Two minutes at 100 frames a second; a few utterances of VoxCeleb1 are longer, none above 145 s."""

FRAMES_PER_BATCH = 25_600
"""128 utterances of 2 s: 8 MB of filterbank."""

FRAMES_PER_BATCH_ON_CPU = 1_200
"""Four utterances of 3 s, for each device. The maps of larger batches do not fit into the caches: with 64 utterances,
every encoder that we measured takes 1.06 to 1.3 times as long (``benchmarks/batch_sizes.py``)."""

MOST_SHAPES = 10
"""More shapes are not worth their compilation: with this number, padding is about 13 % (``docs/evaluation.md``)."""

FRAMES_PER_SHAPE = 2_000
"""Frames (20 s) that another shape must save, so that a few files make one batch."""

SMALLEST_LENGTH, LENGTH_RATIO = 40, 1.1
"""Padded lengths are terms of a geometric series. It does not depend on the data, so other lists and single files reuse
compiled shapes."""


class PlannedBatch(NamedTuple):
    """Shape and utterances of a batch to read: ``indices`` fill the first of ``batch_size`` rows."""

    batch_size: int
    num_frames: int
    indices: Int32[np.ndarray, " rows"]


class _Group(NamedTuple):
    """Utterances of neighbouring lengths, in ``num_batches`` batches of one shape."""

    first: int
    end: int
    num_batches: int
    batch_size: int
    num_frames: int

    @property
    def frames(self) -> int:
        return self.num_batches * self.batch_size * self.num_frames


def plan_batches(
    num_frames: Int[np.ndarray, " N"],
    *,
    frames_per_batch: int = FRAMES_PER_BATCH,
    max_frames: int = MAX_FRAMES,
    batch_multiple: int = 1,
) -> list[PlannedBatch]:
    """Puts every utterance into one batch, with at most ``MOST_SHAPES`` shapes.

    Args:
      num_frames: lengths of the utterances, cut to ``max_frames``.
      frames_per_batch: largest ``B * T``, unless the smallest B exceeds it.
      max_frames: largest length.
      batch_multiple: every B is a multiple of it, e.g. the number of devices.

    Returns:
      Batches from the shortest to the longest; the same lengths give the same batches, on all hosts.

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
    # Stable, so that hosts with the same lengths plan the same batches.
    order = np.argsort(num_frames, kind="stable").astype(np.int32)
    batches = []
    for group in _groups(np.minimum(num_frames[order], max_frames), frames_per_batch, max_frames, batch_multiple):
        for start in range(group.first, group.end, group.batch_size):
            indices = order[start : min(start + group.batch_size, group.end)]
            batches.append(PlannedBatch(group.batch_size, group.num_frames, indices))
    return batches


def padded_lengths(max_frames: int) -> Int[np.ndarray, " terms"]:
    """Returns the possible padded lengths, ascending: multiples of 8, and the largest one."""
    terms = max(0, int(np.ceil(np.log(max_frames / SMALLEST_LENGTH) / np.log(LENGTH_RATIO))))
    series = np.ceil(SMALLEST_LENGTH * LENGTH_RATIO ** np.arange(terms) / 8).astype(int) * 8
    return np.unique([*series[series < max_frames], max_frames])


def _groups(
    lengths: Int[np.ndarray, " N"], frames_per_batch: int, max_frames: int, batch_multiple: int
) -> tuple[_Group, ...]:
    """Finds the split of ascending lengths with the fewest frames; a shape counts as ``FRAMES_PER_SHAPE`` frames."""
    series = padded_lengths(max_frames)
    in_use = np.unique(np.searchsorted(series, lengths))
    ends = np.searchsorted(lengths, series[in_use], side="right").tolist()  # number of utterances up to each term

    def group(first: int, term: int) -> _Group:
        num_frames, rows = int(series[in_use[term]]), ends[term] - first
        most = max(1, frames_per_batch // num_frames // batch_multiple)  # in units of batch_multiple, as below
        needed = -(-rows // batch_multiple)
        batch_size = min(most, _round_number(-(-needed // -(-needed // most))))
        return _Group(first, ends[term], -(-needed // batch_size), batch_size * batch_multiple, num_frames)

    # groups[j][i]: the terms i to j as one group. best[j]: frames and groups of the cheapest split of the terms 0 to j;
    # each round allows one more group.
    groups = [[group(first, term) for first in [0, *ends[:term]]] for term in range(len(ends))]
    best: list[tuple[int, tuple[_Group, ...]]] = [(row[0].frames, (row[0],)) for row in groups]
    cheapest = best[-1]
    for _ in range(1, min(MOST_SHAPES, len(ends))):
        best = [
            min(((best[i][0] + one.frames, (*best[i][1], one)) for i, one in enumerate(row[1:])), default=best[0])
            for row in groups
        ]
        cheapest = min(cheapest, best[-1], key=lambda cut: cut[0] + FRAMES_PER_SHAPE * len(cut[1]))
    return cheapest[1]


def _round_number(rows: int) -> int:
    """Rounds up to four binary digits, by at most an eighth, so that lists of other sizes reuse the compiled shape."""
    unit = 1 << max(0, rows.bit_length() - 4)
    return -(-rows // unit) * unit
