"""Batches of P speakers with U utterances each, from speakers that are drawn with given frequencies."""

import math
import sys
from typing import NamedTuple

import numpy as np
from grain.experimental import index_shuffle
from jaxtyping import Float64, Int32, Int64

# Offsets of a round keep this distance from whole numbers, so that rounding never moves a visit of equal speakers.
_MARGIN = 1e-6

# Up to here a permutation takes less time; grain's shuffle takes no longer for a large count, but long for a small one.
_FEW = 4096


class _Round(NamedTuple):
    """One round of visits.

    Attributes:
      number: which round.
      speakers: the S speakers in random order.
      ends: where the interval of each ends on a line from 0 to L, less the offset of the visits.
      order: random order of the batches.
    """

    number: int
    speakers: Int64[np.ndarray, " S"]
    ends: Float64[np.ndarray, " S"]
    order: Int64[np.ndarray, " R"]


class SpeakerVisits:
    """The endless sequence of utterances, with random access; each group of U consecutive samples is one speaker's.

    A round holds R batches and L = R * P visits, about one per speaker. The speakers, in random order, divide a line of
    length L in proportion to their weights, and visits lie on it at distance 1. So a round visits a speaker with the
    share s of all weights L * s times, rounded down or up, and L * s times on average. Batch b takes every R-th visit
    from the b-th on, so a batch visits no speaker twice whose share is at most 1 / P.

    Each visit takes the speaker's next U utterances, from one shuffle after another. A round reserves utterances for as
    many visits as it may make. Utterances of visits that it does not make, and those that do not fill U at the end of a
    shuffle, are left out of that shuffle. Each shuffle leaves out others.
    """

    def __init__(
        self,
        utterances: Int32[np.ndarray, " N"],
        speaker: Int32[np.ndarray, " N"],
        weights: Float64[np.ndarray, " C"],
        *,
        speakers_per_batch: int,
        utterances_per_speaker: int,
        seed: int,
    ) -> None:
        """Prepares the sequence.

        Args:
          utterances: N entries to draw; an utterance may have several.
          speaker: class of each entry.
          weights: of each class; only ratios count.
          speakers_per_batch: P.
          utterances_per_speaker: U; the utterances differ if the speaker has that many.
          seed: seed of all draws.
        """
        self._group, self._per_batch, self._seed = utterances_per_speaker, speakers_per_batch, seed
        order = np.argsort(speaker, kind="stable")
        self._utterances = utterances[order]  # sorted by speaker
        classes, self._first, self._count = np.unique(speaker[order], return_index=True, return_counts=True)
        self._batches = max(1, len(classes) // speakers_per_batch)  # of a round, R
        self._visits = weights[classes] * (self._batches * speakers_per_batch / weights[classes].sum())  # mean of each
        self._reserved = np.ceil(self._visits - _MARGIN).astype(np.int64)
        self._latest: tuple[_Round, ...] = ()

    def __len__(self) -> int:
        return sys.maxsize  # grain's convention for endless

    def __getitem__(self, position: int) -> int:
        visit, slot = divmod(position, self._group)
        batch, place = divmod(visit, self._per_batch)
        number, batch = divmod(batch, self._batches)
        plan = self._round(number)
        point = place * self._batches + int(plan.order[batch])
        interval = int(plan.ends.searchsorted(point, side="right"))
        start = plan.ends[interval - 1] if interval else 0.0
        speaker = int(plan.speakers[interval])
        earlier = point - max(0, math.ceil(start))  # visits of this speaker in this round
        place = self._place(speaker, number * int(self._reserved[speaker]) + earlier, slot)
        return int(self._utterances[self._first[speaker] + place])

    def _place(self, speaker: int, visit: int, slot: int) -> int:
        """Which of a speaker's entries is the ``slot``-th of its ``visit``-th group."""
        count, group = int(self._count[speaker]), self._group
        if count >= group:
            cycle, place = divmod(visit * group + slot, count - count % group)
        else:  # every visit starts a shuffle of its own, so that it takes all of the speaker's few utterances
            cycle, place = divmod(slot, count)
            cycle += visit * -(-group // count)
        rng = np.random.default_rng([self._seed, speaker, cycle])
        if count <= _FEW:
            return int(rng.permutation(count)[place])
        return index_shuffle(place, max_index=count - 1, seed=int(rng.integers(2**32)), rounds=4)

    def _round(self, number: int) -> _Round:
        """Makes a round, or finds it among the latest two: batches that are read at once lie in neighbouring rounds."""
        for plan in self._latest:
            if plan.number == number:
                return plan
        rng = np.random.default_rng([self._seed, number])
        speakers = rng.permutation(len(self._visits))
        ends = np.cumsum(self._visits[speakers]) - rng.uniform(_MARGIN, 1 - _MARGIN)
        ends[-1] = np.inf  # rounding must not put the last visit beyond the line
        plan = _Round(number, speakers, ends, rng.permutation(self._batches))
        self._latest = (*self._latest[-1:], plan)
        return plan
