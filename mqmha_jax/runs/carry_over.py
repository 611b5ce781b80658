"""Carries the values of one network over to another that differs after the encoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn
from flax import traverse_util
from jaxtyping import PyTree

from mqmha_jax import parallel
from mqmha_jax.errors import UserError
from mqmha_jax.models.pooling.statistics import TAP, TSTP

_Flat = dict[tuple[str, ...], Any]  # arrays of NumPy or JAX
_SCORER = ("params", "pooling", "score", "kernel")
_POOLED_NORM = "pooled_norm"
_BEHIND_POOLING = (("params", "hidden", "kernel"), ("params", "embedding", "kernel"))  # whichever comes first


class Carried(NamedTuple):
    """A network with the values of another.

    Attributes:
      variables: ``params`` and ``batch_stats``, on the devices of ours.
      fresh_parts: parts for which the other network has no values, so ours stay.
      widened: the other network's plain statistics became attentive ones.
    """

    variables: dict[str, PyTree]
    fresh_parts: list[str]
    widened: bool


def carry_over(
    theirs: Mapping[str, PyTree], pooling: nn.Module, ours: Mapping[str, PyTree], workdir: Path, *, advice: str
) -> Carried:
    """Gives our network all values of theirs that fit.

    If their pooling is plain statistics and ours attention over them, the layer behind the pooling carries over too:
    each query gets an equal share of it. So the embeddings agree where attention is uniform. A small
    ``model.pooling.scorer_scale`` such as 0.1 starts near that; at exactly 0 all queries of a head learn the same.

    Args:
      theirs: ``params`` and ``batch_stats`` of the other network.
      pooling: of the other network.
      ours: the same of our network.
      workdir: of the other run, for messages.
      advice: what to do about another architecture, for its message.

    Raises:
      UserError: the encoders differ.
    """
    flat_theirs, flat_ours = (traverse_util.flatten_dict(dict(tree)) for tree in (theirs, ours))
    positions = _positions(flat_theirs, pooling, flat_ours)
    if positions is not None:
        flat_theirs = _widen(flat_theirs, positions)
    fits = {path for path, leaf in flat_ours.items() if np.shape(flat_theirs.get(path)) == leaf.shape}
    different = [path for path in flat_ours if path not in fits]
    for path in different:
        if path[1] == "encoder":
            there = np.shape(flat_theirs[path]) if path in flat_theirs else "nothing"
            raise UserError(
                f"The encoder of {workdir} has another architecture: {'/'.join(path[1:])} is {flat_ours[path].shape} "
                f"here and {there} there. {advice}"
            )
    merged = {
        path: parallel.put_like(flat_theirs[path], leaf) if path in fits else leaf for path, leaf in flat_ours.items()
    }
    fresh = sorted({path[1] for path in different})
    return Carried(traverse_util.unflatten_dict(merged), fresh, widened=positions is not None)


def _positions(theirs: _Flat, pooling: nn.Module, ours: _Flat) -> np.ndarray | None:
    """For each of our pooled values the number of theirs, ``[S]``; None if the poolings are not related so."""
    behind = next((path for path in _BEHIND_POOLING if path in ours and path in theirs), None)
    if _SCORER not in ours or not isinstance(pooling, TAP | TSTP) or behind is None:
        return None
    queries, heads = ours[_SCORER].shape[:2]
    num_theirs = theirs[behind].shape[0]
    num_statistics = 2 if isinstance(pooling, TSTP) else 1
    if ours[behind].shape[0] != queries * num_theirs or num_theirs % (heads * num_statistics):
        return None
    # Theirs is ordered statistic, channel; ours is query, head, statistic, channel of the head.
    by_head = np.arange(num_theirs).reshape(num_statistics, heads, -1).swapaxes(0, 1).reshape(-1)
    return np.tile(by_head, queries)


def _widen(theirs: _Flat, positions: np.ndarray) -> _Flat:
    """Their network behind a pooling that gives their values several times, in our order."""
    behind = next(path for path in _BEHIND_POOLING if path in theirs)
    times = len(positions) // theirs[behind].shape[0]
    widened = {path: np.asarray(x)[positions] if path[1] == _POOLED_NORM else x for path, x in theirs.items()}
    widened[behind] = np.asarray(theirs[behind])[positions] / times
    return widened
