"""Changes of a store, and its list of speakers. They need no network."""

import datetime
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.say import Say, say_nothing
from mqmha_jax.store.files import Network, lock_store, read_blocks, read_state, write_state
from mqmha_jax.store.new_recordings import select_new
from mqmha_jax.store.roster import Roster


class Speaker(NamedTuple):
    """An enrolled speaker.

    Attributes:
      name: of the speaker.
      recordings: names of the recordings.
      speech_s: seconds of speech in them.
      enrolled: when the last of them was enrolled.
    """

    name: str
    recordings: tuple[str, ...]
    speech_s: float
    enrolled: datetime.datetime

    def sentence(self) -> str:
        """The speaker on one line."""
        count = count_noun(len(self.recordings), "recording")
        return f"{self.name}: {count}, {self.speech_s:.1f} s of speech, enrolled {self.enrolled:%Y-%m-%d}"

    def to_dict(self) -> dict[str, Any]:
        """The speaker as JSON values."""
        return self._asdict() | {"speech_s": round(self.speech_s, 3), "enrolled": self.enrolled.isoformat()}


def list_speakers(roster: Roster) -> tuple[Speaker, ...]:
    """The speakers of a roster with their recordings."""
    count = len(roster.speakers)
    recordings: list[list[str]] = [[] for _ in range(count)]
    for speaker, recording in zip(roster.speaker.tolist(), roster.recordings, strict=True):
        recordings[speaker].append(recording)
    speech_s = np.bincount(roster.speaker, roster.speech_s, count)
    enrolled = np.zeros(count, np.int64)
    np.maximum.at(enrolled, roster.speaker, roster.enrolled)
    times = [datetime.datetime.fromtimestamp(when, datetime.UTC) for when in enrolled.tolist()]
    return tuple(
        Speaker(name, tuple(recordings[i]), float(speech_s[i]), when)
        for i, (name, when) in enumerate(zip(roster.speakers, times, strict=True))
    )


def add_recordings(
    path: Path,
    added: Roster,
    vectors: Float32[np.ndarray, "R E"],
    *,
    origin: tuple[Path, Network] | None = None,
    say: Say = say_nothing,
) -> Roster:
    """Adds recordings to a store. A recording that the speaker already has counts once; no recording is replaced.

    Args:
      path: of the store.
      added: the recordings.
      vectors: their embeddings, not normalised.
      origin: the store that they come from and its network; None: the network of ``path`` made them.
      say: called with a sentence for each recording that counts once, or has another name than the given one.

    Returns:
      The roster of the store after the change.

    Raises:
      UserError: they are of another network, or the store cannot be written.
    """
    with lock_store(path):
        stored = read_state(path)
        if origin and (difference := stored.network.difference(origin[1])):
            raise UserError(
                f"{path} and {origin[0]} are of different networks: {difference}. Enrol the recordings of "
                f"{origin[0]} in {path} instead."
            )
        new = select_new(stored.roster, stored.vectors, added, vectors)
        roster = stored.roster
        if new.rows.any():
            roster = roster.join(new.roster)
            blocks = itertools.chain(read_blocks(stored.vectors), read_blocks(vectors, new.rows))
            write_state(path, stored.generation + 1, stored.network, roster, blocks)
    for remark in new.remarks:
        say(remark)
    return roster


def remove_speaker(path: Path, name: str, recordings: Sequence[str] = ()) -> Roster:
    """Removes a speaker, or some recordings of one, from a store.

    Raises:
      UserError: as ``SpeakerStore.remove``.
    """
    with lock_store(path):
        stored = read_state(path)
        kept = ~stored.roster.rows_of(name, recordings)
        roster, blocks = stored.roster.keep(kept), read_blocks(stored.vectors, kept)
        write_state(path, stored.generation + 1, stored.network, roster, blocks)
    return roster


def merge_stores(path: Path, other: Path) -> Roster:
    """Copies all speakers of another store into this one; a recording that a speaker has in both counts once.

    Raises:
      UserError: as ``SpeakerStore.merge``.
    """
    if path.resolve() == other.resolve():
        raise UserError(f"{path} cannot be merged with itself; give two stores.")
    theirs = read_state(other)
    return add_recordings(path, theirs.roster, theirs.vectors, origin=(other, theirs.network))


def count_speakers(roster: Roster) -> str:
    """How many speakers and recordings there are, in words."""
    return f"{count_noun(len(roster.speakers), 'speaker')}, {count_noun(len(roster.recordings), 'recording')}"
