"""Exact EER and minimum detection costs of more scores than fit in memory.

Floating-point numbers are ordered like integers made of their bits. The first reading counts targets and nontargets by
the highest bits of these integers; the error rates at the edges of the bins are exact operating points of the list.
Only bins that may hold a better operating point than all edges are looked into by a further reading, which counts by
the next bits, until a bin is a single number. For float32 that makes two readings, for float64 up to five; the memory
depends on the number of bins, not of scores.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt64

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.detection import DetectionCurve, bayes_threshold

# A function that reads the list from its beginning each time it is called: parts of scores and targets.
ScoreChunks = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]

_FIRST_BITS = 20  # 2^20 bins for both classes are 16 MiB, fine enough for a smooth DET curve
_NEXT_BITS = 12
_BINS_AT_ONCE = 1 << 10  # 64 MiB of counts; more bins that need a look take a further reading


def streaming_detection_curve(
    chunks: ScoreChunks, costs: Sequence[tuple[float, float, float]] = ((0.01, 1.0, 1.0), (0.05, 1.0, 1.0))
) -> DetectionCurve:
    """A detection curve of a list that is read in parts, several times.

    It has some of the points of ``detection_curve``, among them all that decide the EER and the minimum of each of the
    given costs: these metrics are exactly those of the whole list. The points between are close enough for a DET plot.

    Args:
      chunks: called for each reading; yields scores ``[m]`` (all float32 or all float64) and targets ``[m]``.
      costs: ``(p_target, c_miss, c_fa)`` of every ``min_dcf`` that will be asked of the curve.

    Returns:
      The curve. A threshold lies above the next lower score of the list and not above the score of its point.

    Raises:
      UserError: a chunk is malformed or has a score that is not finite; a class is missing; types of scores differ; two
        readings differ; an impossible prior or cost.
    """
    for p_target, c_miss, c_fa in costs:
        bayes_threshold(p_target, c_miss, c_fa)  # refuses what is impossible before anything is read
    reader = _Reader(chunks)
    every = np.zeros(1, np.uint64)  # one bin with all numbers
    shift = reader.bits - _FIRST_BITS
    starts, counts = reader.count(every, reader.bits, shift)
    totals = counts.sum(axis=0)
    if not totals.all():
        present = ("no", "only nontarget", "only target")[int(totals[0] > 0) * 2 + int(totals[1] > 0)]
        raise UserError(f"The list has {present} trials; error rates need at least one target and one nontarget trial.")
    while shift and len(bins := _undecided(starts, counts, totals, costs)):
        width, shift = shift, max(0, shift - _NEXT_BITS)
        parts = [
            reader.count(starts[bins[i : i + _BINS_AT_ONCE]] >> np.uint64(width), width, shift)
            for i in range(0, len(bins), _BINS_AT_ONCE)
        ]
        finer_starts, finer_counts = (np.concatenate(column) for column in zip(*parts, strict=True))
        starts = np.concatenate([np.delete(starts, bins), finer_starts])
        counts = np.concatenate([np.delete(counts, bins, axis=0), finer_counts])
        order = np.argsort(starts)
        starts, counts = starts[order], counts[order]
    below = np.concatenate([np.zeros((1, 2), np.int64), np.cumsum(counts, axis=0)])
    return DetectionCurve(
        threshold=np.append(_number(starts, reader.bits), np.inf),
        miss=below[:, 0] / totals[0],
        false_alarm=(totals[1] - below[:, 1]) / totals[1],
    )


def npz_chunks(paths: Sequence[str | Path]) -> ScoreChunks:
    """Chunks from NumPy archives with arrays ``scores`` and ``target``, one file at a time.

    Raises:
      UserError: while reading: a file can not be read or lacks an array.
    """

    def read() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for path in paths:
            try:
                with np.load(path, allow_pickle=False) as archive:
                    chunk = archive["scores"], archive["target"]
            except Exception as error:  # zipfile, zlib, numpy and os each have their own
                raise UserError(
                    f"{path}: no scores can be read ({error}); valid: npz with scores and target."
                ) from error
            yield chunk

    return read


class _Reader:
    """Counts over readings of the list, which must all be alike."""

    def __init__(self, chunks: ScoreChunks) -> None:
        first = next(iter(chunks()), None)
        if first is None:
            raise UserError("There are no scores; error rates need at least one target and one nontarget trial.")
        self._chunks = chunks
        self._type = first[0].dtype
        self._total: int | None = None
        if self._type not in (np.float32, np.float64):
            raise UserError(f"The scores have type {self._type}; valid: float32 or float64.")
        self.bits = 8 * self._type.itemsize

    def count(
        self, prefixes: UInt64[np.ndarray, " k"], width: int, shift: int
    ) -> tuple[UInt64[np.ndarray, " b"], Int64[np.ndarray, "b 2"]]:
        """Targets and nontargets by the bits from ``shift`` up, among the numbers with given bits from ``width`` up.

        Args:
          prefixes: the bits from ``width`` up, ascending.
          width: lowest bit of the prefixes.
          shift: lowest bit that is told apart.

        Returns:
          The smallest number of each bin that is not empty, ascending, and its two counts.
        """
        digits = 1 << (width - shift)
        counts = np.zeros((len(prefixes) * digits, 2), np.int64)
        total = 0
        for scores, target in self._checked_chunks():
            total += len(scores)
            keys = _key(scores)
            # Shifts by the full width of an integer are not defined.
            prefix = keys >> np.uint64(width) if width < 64 else np.zeros_like(keys)
            row = np.searchsorted(prefixes, prefix).clip(max=len(prefixes) - 1)
            held = prefixes[row] == prefix
            digit = (keys[held] >> np.uint64(shift)).astype(np.int64) & (digits - 1)
            code = 2 * (row[held] * digits + digit) + ~target[held]
            counts += np.bincount(code, minlength=counts.size).reshape(counts.shape)
        if total != (total if self._total is None else self._total):
            raise UserError(
                f"The list had {self._total} scores at the first reading and {total} at a later one; "
                "chunks must be a function that starts from the beginning at every call."
            )
        self._total = total
        filled = np.flatnonzero(counts.any(axis=1))
        above = prefixes[filled // digits] << np.uint64(width) if width < 64 else np.uint64(0)
        return above | (filled % digits).astype(np.uint64) << np.uint64(shift), counts[filled]

    def _checked_chunks(self) -> Iterator[tuple[np.ndarray, Bool[np.ndarray, " m"]]]:
        for number, (scores, target) in enumerate(self._chunks(), start=1):
            if scores.shape != target.shape or scores.ndim != 1:
                raise UserError(
                    f"Chunk {number} has scores {scores.shape} and targets {target.shape}; valid: [m] both."
                )
            if scores.dtype != self._type:
                raise UserError(
                    f"Chunk {number} has scores of type {scores.dtype}, the first has {self._type}; make them alike."
                )
            if not np.isfinite(scores).all():
                place = np.flatnonzero(~np.isfinite(scores))[0]
                raise UserError(f"Score {place + 1} of chunk {number} is {scores[place]}; check its embeddings.")
            if target.dtype != np.bool_ and not np.isin(target, (0, 1)).all():
                raise UserError(f"Chunk {number}: target has other values than 0 and 1; valid: booleans.")
            yield scores, target.astype(np.bool_)


def _undecided(
    starts: UInt64[np.ndarray, " b"],
    counts: Int64[np.ndarray, "b 2"],
    totals: Int64[np.ndarray, " 2"],
    costs: Sequence[tuple[float, float, float]],
) -> Int64[np.ndarray, " u"]:
    """The bins whose inner operating points may decide the EER or a minimum cost."""
    below = np.concatenate([np.zeros((1, 2), np.int64), np.cumsum(counts, axis=0)])
    edges = DetectionCurve(
        threshold=np.zeros(len(below)),  # not looked at
        miss=below[:, 0] / totals[0],
        false_alarm=(totals[1] - below[:, 1]) / totals[1],
    )
    # Inside a bin no point has fewer misses than its lower edge, nor fewer false alarms than its upper edge.
    inside = DetectionCurve(np.zeros(len(starts)), edges.miss[:-1], edges.false_alarm[1:])
    wanted = np.zeros(len(starts), np.bool_)
    for cost in costs:
        wanted |= inside.detection_cost(*cost) < edges.detection_cost(*cost).min()
    wanted &= counts.all(axis=1)  # one class only: an edge is the best point
    # The EER lies on the line between two adjacent points: the bin that holds their score must be a single number.
    crossing = int(np.argmax(edges.miss >= edges.false_alarm)) - 1
    wanted[crossing] |= counts[crossing].sum() > 1
    return np.flatnonzero(wanted)


def _key(scores: Shaped[np.ndarray, " m"]) -> UInt64[np.ndarray, " m"]:
    """Integers in the order of the numbers: the sign bit flipped, all bits of negative numbers."""
    integer = np.dtype(f"u{scores.dtype.itemsize}").type
    bits = (scores + scores.dtype.type(0)).view(integer)  # adding 0 makes -0.0 the 0.0 that it equals
    top = integer(1) << integer(8 * scores.dtype.itemsize - 1)
    return np.where(bits & top, ~bits, bits | top).astype(np.uint64)


def _number(keys: UInt64[np.ndarray, " m"], width: int) -> Shaped[np.ndarray, " m"]:
    """The numbers of these integers."""
    bits = keys.astype(f"u{width // 8}")
    top = bits.dtype.type(1) << bits.dtype.type(width - 1)
    return np.where(bits & top, bits ^ top, ~bits).view(f"f{width // 8}")
