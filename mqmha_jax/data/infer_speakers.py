"""Infers the speakers of utterances from trial lists: by the folders in their ids, or by the labels alone."""

from collections.abc import Sequence

import numpy as np
import scipy  # its parts load when they are first used
from jaxtyping import Bool, Int32

from mqmha_jax.data.lists import number_names
from mqmha_jax.types import Trials


def infer_speakers(lists: Sequence[Trials]) -> dict[str, str]:
    """Infers the speaker of each utterance of trial lists that no metadata describe.

    If one level of the folders in the ids agrees with every label (target trials have equal folders, nontarget trials
    different ones), the folders down to that level are the speakers. Otherwise utterances that target trials link, also
    over others, have one speaker; an utterance without target trials counts as a speaker of its own.

    Args:
      lists: trials between utterances.

    Returns:
      The speaker of each utterance; empty if the labels contradict each other.
    """
    target = np.concatenate([trials.target for trials in lists])
    ids, (enrol, test) = number_names(
        [name for trials in lists for name in trials.enrol], [name for trials in lists for name in trials.test]
    )
    parts = [name.split("/") for name in ids]
    for depth in range(1, max(map(len, parts))):
        folders = ["/".join(part[:depth]) if depth < len(part) else name for name, part in zip(ids, parts, strict=True)]
        numbers = np.unique(folders, return_inverse=True)[1]
        if np.array_equal(numbers[enrol] == numbers[test], target):
            last = [folder.rpartition("/")[2] for folder in folders]
            unique = len({*last}) == len({*folders})
            return dict(zip(ids, last if unique else folders, strict=True))
    return _link_targets(ids, enrol, test, target)


def _link_targets(
    ids: Sequence[str], enrol: Int32[np.ndarray, " M"], test: Int32[np.ndarray, " M"], target: Bool[np.ndarray, " M"]
) -> dict[str, str]:
    edges = (np.ones(np.count_nonzero(target), np.bool_), (enrol[target], test[target]))
    graph = scipy.sparse.coo_array(edges, shape=(len(ids), len(ids)))
    number = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
    if np.any(number[enrol[~target]] == number[test[~target]]):
        return {}
    first = np.unique(number, return_index=True)[1]
    return {name: f"speaker of {ids[first[speaker]]}" for name, speaker in zip(ids, number, strict=True)}
