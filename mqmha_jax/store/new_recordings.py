"""Decides which recordings a speaker does not have yet, and what they are called.

Two recordings are the same if their embeddings are: a file keeps its embedding when it is renamed, copied or
converted to another lossless format, and files of the same name with other audio have other embeddings.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from mqmha_jax.store.roster import Roster

SAME_WITHIN = 1e-3
"""Distance of two embeddings of one recording, relative to their length. Other machines round to about 1e-5; two
recordings are at least 2e-2 apart even for an untrained network."""


class NewRecordings(NamedTuple):
    """What a change adds.

    Attributes:
      rows: which of the R given recordings are new.
      roster: the new ones, with names that differ from each other and from those of the speaker's other recordings.
      remarks: a sentence for each recording that counts once, or has another name than the given one.
    """

    rows: Bool[np.ndarray, " R"]
    roster: Roster
    remarks: tuple[str, ...]


def select_new(
    known: Roster, vectors: Float32[np.ndarray, "K E"], added: Roster, added_vectors: Float32[np.ndarray, "R E"]
) -> NewRecordings:
    """Compares the recordings of each speaker with those that the speaker has, and with each other.

    Args:
      known: the recordings of the store.
      vectors: their embeddings.
      added: the given recordings.
      added_vectors: their embeddings.
    """
    is_new = np.ones(len(added.recordings), np.bool_)
    names, remarks = list(added.recordings), []
    rows_before = known.rows_of_each(added.speakers)
    for speaker, rows in added.rows_of_each(added.speakers).items():
        before = rows_before[speaker]
        compared = np.concatenate([vectors[before], added_vectors[rows]])
        taken = [known.recordings[row] for row in before]
        kept = list(range(len(before)))  # rows of ``compared`` that the names in ``taken`` belong to
        for position, row in enumerate(rows, len(before)):
            given = names[row]
            if (same := _find_same(compared[kept], compared[position])) is not None:
                is_new[row] = False
                remarks.append(f"{given}: {speaker} has this recording already, as {taken[same]}; it counts once.")
                continue
            names[row] = _free_name(given, taken)
            if names[row] != given:
                remarks.append(
                    f"{given}: {speaker} has another recording of this name; this one is added as {names[row]!r}."
                )
            taken.append(names[row])
            kept.append(position)
    return NewRecordings(is_new, added._replace(recordings=tuple(names)).keep(is_new), tuple(remarks))


def _find_same(vectors: Float32[np.ndarray, "K E"], vector: Float32[np.ndarray, " E"]) -> int | None:
    distances = np.linalg.norm(vectors - vector, axis=1)
    found = np.flatnonzero(distances <= SAME_WITHIN * np.linalg.norm(vector))
    return int(found[0]) if len(found) else None


def _free_name(name: str, taken: Collection[str]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free
