"""The enrolled speakers and their recordings."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from mqmha_jax.data.ids import check_id, check_spellings, other_spelling, plain_id
from mqmha_jax.errors import UserError


class Roster(NamedTuple):
    """The speakers of a store and their recordings, without the embeddings.

    Attributes:
      speakers: P names, in the order in which they were first enrolled.
      recordings: R names, in the order of the embeddings.
      speaker: speaker of each recording, a position in ``speakers``.
      seconds: length of each recording; of a long one the network embeds only the middle.
      speech_s: speech in it.
      enrolled: when it was enrolled, in seconds since 1970 (UTC).
    """

    speakers: tuple[str, ...]
    recordings: tuple[str, ...]
    speaker: Int32[np.ndarray, " R"]
    seconds: Float32[np.ndarray, " R"]
    speech_s: Float32[np.ndarray, " R"]
    enrolled: Int64[np.ndarray, " R"]

    def position(self, name: str) -> int:
        """Position of a speaker.

        Raises:
          UserError: nobody of this name is enrolled.
        """
        if name in self.speakers:
            return self.speakers.index(name)
        other = other_spelling(name, self.speakers)
        hint = f" {other!r} looks the same and is written with other characters." if other else ""
        raise UserError(f"Nobody called {name!r} is enrolled.{hint} 'mqmha store list' shows who is.")

    def rows_of(self, name: str, recordings: Sequence[str] = ()) -> Bool[np.ndarray, " R"]:
        """Marks all recordings of a speaker, or the named ones.

        A name may also be another form of the same path, such as ``./a.wav`` for ``a.wav``.

        Raises:
          UserError: nobody of this name is enrolled, or not with such a recording.
        """
        own = self.speaker == self.position(name)
        if not recordings:
            return own
        names = [self.recordings[row] for row in np.flatnonzero(own)]
        chosen = [one if one in names else plain_id(one) for one in recordings]
        for recording, found in zip(recordings, chosen, strict=True):
            if found not in names:
                raise UserError(f"{name!r} is not enrolled with {recording!r}, but with {', '.join(names)}.")
        own[own] = [one in chosen for one in names]
        return own

    def rows_of_each(self, names: Iterable[str]) -> dict[str, list[int]]:
        """The recordings of each of the named speakers, in order; none of a speaker who is not enrolled."""
        rows: dict[str, list[int]] = {name: [] for name in names}
        wanted = [position for position, name in enumerate(self.speakers) if name in rows]
        for row in np.flatnonzero(np.isin(self.speaker, wanted)).tolist():
            rows[self.speakers[self.speaker[row]]].append(row)
        return rows

    def keep(self, rows: Bool[np.ndarray, " R"]) -> "Roster":
        """The roster with some of the recordings; speakers without any are gone."""
        left, speaker = np.unique(self.speaker[rows], return_inverse=True)
        return Roster(
            tuple(self.speakers[position] for position in left),
            tuple(self.recordings[row] for row in np.flatnonzero(rows)),
            speaker.astype(np.int32),
            *(column[rows] for column in self[3:]),
        )

    def join(self, other: "Roster") -> "Roster":
        """The recordings of both, those of ``other`` last; speakers of the same name are one.

        Raises:
          UserError: a new name looks the same as another and differs in its characters.
        """
        positions = {name: position for position, name in enumerate(self.speakers)}
        if new := [name for name in other.speakers if name not in positions]:
            check_spellings(new, "speakers", known=self.speakers)
        for name in new:
            positions[name] = len(positions)
        moved = np.array([positions[name] for name in other.speakers], np.int32)[other.speaker]
        columns = zip(self[3:], other[3:], strict=True)
        return Roster(
            tuple(positions),
            self.recordings + other.recordings,
            np.concatenate([self.speaker, moved]),
            *(np.concatenate(pair) for pair in columns),
        )


EMPTY = Roster((), (), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def check_names(name: str, recordings: Iterable[str]) -> None:
    """Refuses names of a speaker and of recordings that no roster can hold.

    Raises:
      UserError: a name is empty or white space, or has control characters.
    """
    check_id(name, "The speaker's name")
    for recording in recordings:
        check_id(recording, f"{name}: the recording's name")


def make_roster(
    name: str, recordings: Sequence[str], seconds: Sequence[float], speech_s: Sequence[float], *, now: float
) -> Roster:
    """The roster of one speaker.

    Args:
      name: of the speaker.
      recordings: names of R recordings, each once.
      seconds: length of each.
      speech_s: speech in each.
      now: seconds since 1970.

    Raises:
      UserError: as ``check_names``.
    """
    check_names(name, recordings)
    count = len(recordings)
    return Roster(
        (name,),
        tuple(recordings),
        np.zeros(count, np.int32),
        np.array(seconds, np.float32),
        np.array(speech_s, np.float32),
        np.full(count, int(now), np.int64),
    )
