"""Which utterance each sample of the endless training sequence is."""

import sys

import grain
import numpy as np
from jaxtyping import Int32


def utterance_sequence(num_utterances: int, seed: int) -> grain.MapDataset:
    """Draws every utterance once per epoch, in an order that changes with the epoch.

    Args:
      num_utterances: N.
      seed: seed of the order.

    Returns:
      An endless sequence of utterance indices with random access.
    """
    return grain.MapDataset.range(num_utterances).shuffle(seed).repeat()


def duration_sequence(num_frames: Int32[np.ndarray, " N"], *, crop_frames: int, seed: int) -> grain.MapDataset:
    """Draws every utterance once per epoch for each crop that it holds (rounded, at least once).

    The order changes with the epoch. A corpus of long and short recordings is then heard evenly.

    Args:
      num_frames: length of each utterance.
      crop_frames: length of a crop.
      seed: seed of the order.

    Returns:
      An endless sequence of utterance indices with random access.
    """
    crops = np.maximum(1, np.round(num_frames / crop_frames)).astype(np.int64)
    utterances = np.repeat(np.arange(len(num_frames), dtype=np.int32), crops)
    return grain.MapDataset.source(utterances).shuffle(seed).repeat().map(int)


def speaker_sequence(
    speaker: Int32[np.ndarray, " N"], *, speakers_per_batch: int, utterances_per_speaker: int, seed: int
) -> grain.MapDataset:
    """Draws every speaker equally often; a batch holds P different speakers with U consecutive samples each.

    Args:
      speaker: class of each utterance.
      speakers_per_batch: P; if the corpus has fewer speakers, a batch repeats some.
      utterances_per_speaker: U; the utterances differ if the speaker has that many.
      seed: seed of the order of speakers and of each speaker's utterances.

    Returns:
      An endless sequence of utterance indices with random access.
    """
    return grain.MapDataset.source(_SpeakerSlots(speaker, speakers_per_batch, utterances_per_speaker, seed))


class _SpeakerSlots:
    """Epochs of shuffled speakers. Each visit takes a speaker's next U utterances, from one shuffle after another.

    Speakers that do not fill a batch at the end of an epoch are left out of that epoch, and so are utterances that do
    not fill U at the end of a shuffle. Each shuffle leaves out others.
    """

    def __init__(self, speaker: np.ndarray, speakers_per_batch: int, utterances_per_speaker: int, seed: int) -> None:
        self._seed = seed
        self._group = utterances_per_speaker
        self._utterances = np.argsort(speaker, kind="stable")  # sorted by speaker
        _, self._first, self._count = np.unique(speaker[self._utterances], return_index=True, return_counts=True)
        self._num_speakers = len(self._first)
        self._speakers = grain.MapDataset.range(self._num_speakers).shuffle(seed)
        self._visits_per_epoch = _round_down(self._num_speakers, speakers_per_batch)

    def __len__(self) -> int:
        return sys.maxsize  # grain's convention for endless

    def __getitem__(self, position: int) -> int:
        visit, slot = divmod(position, self._group)
        epoch, place = divmod(visit, self._visits_per_epoch)
        speaker = int(self._speakers[epoch * self._num_speakers + place])
        count = int(self._count[speaker])
        if count >= self._group:
            cycle, place = divmod(epoch * self._group + slot, count - count % self._group)
        else:  # every visit starts a shuffle of its own, so that it takes all of the speaker's few utterances
            cycle, place = divmod(slot, count)
            cycle += epoch * -(-self._group // count)
        # Made anew for every sample instead of kept: random access without state is what lets a run resume anywhere.
        order = np.random.default_rng([self._seed, speaker, cycle]).permutation(count)
        return int(self._utterances[self._first[speaker] + order[place]])


def _round_down(total: int, part: int) -> int:
    """Returns the largest multiple of ``part`` up to ``total``, or ``total`` if that is smaller than ``part``."""
    return total - total % part if total >= part else total
