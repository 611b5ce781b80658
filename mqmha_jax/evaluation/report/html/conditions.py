"""Error rates by condition. A condition is a group of trials whose two sides have the same metadata."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from mqmha_jax.data.lists import number_names
from mqmha_jax.data.metadata import Column
from mqmha_jax.evaluation.metrics.detection import detection_curve
from mqmha_jax.evaluation.metrics.results import ListEvaluation, SystemScores

# With fewer trials of a class, one of them moves an error rate by more than a point. The report then shows no rate.
MIN_TRIALS = 100

_MAX_PAIRED_VALUES = 4  # a column with more values (sessions, say) is divided into "same" and "different" only
_QUANTILES = (0.25, 0.5, 0.75)
_UNKNOWN = "unknown"


class Grouping(NamedTuple):
    """The condition that each trial belongs to.

    Attributes:
      names: names of the conditions.
      group: ``[M]`` index into the names.
    """

    names: tuple[str, ...]
    group: Int32[np.ndarray, " M"]


class Rates(NamedTuple):
    """Error rates of one system in one condition, as fractions; None where a class has fewer than ``MIN_TRIALS``.

    Attributes:
      eer: equal error rate of the condition alone, with its own threshold.
      miss: share of its targets below the threshold of the whole list.
      false_alarm: share of its nontargets at or above that threshold.
    """

    eer: float | None
    miss: float | None
    false_alarm: float | None


class Condition(NamedTuple):
    """The trials of one condition and the error rates of each system on them.

    Attributes:
      name: such as "female / male", "different" or "below 2".
      num_targets: number of trials of the same speaker.
      num_nontargets: number of trials of different speakers.
      num_speakers: number of speakers on either side of a trial; None where unknown.
      rates: rates of each system, in the order of the list's systems.
    """

    name: str
    num_targets: int
    num_nontargets: int
    num_speakers: int | None
    rates: tuple[Rates, ...]


def group_trials(column: Column) -> Grouping:
    """Divides trials by one column of the metadata.

    The smaller number of the two sides (the shorter or noisier recording) decides how hard a trial is, so numbers are
    divided by it: at the quartiles, rounded to two digits, or by value if there are at most four values. Up to four
    words are paired ("female / male", in either order); more words, such as session names, make "same" and "different".

    Args:
      column: words or numbers of M trials; "" or nan where unknown.

    Returns:
      The conditions that have trials, in a sensible order; trials with an unknown side come last, as "unknown".
    """
    if column.words is None:
        names, group = _by_number(np.minimum(column.enrol, column.test).astype(np.float64))
    else:
        names, group = _by_word(column.words, [column.enrol, column.test])
    present = np.flatnonzero(np.bincount(group, minlength=len(names)))
    return Grouping(tuple(names[i] for i in present), np.searchsorted(present, group).astype(np.int32))


def measure_conditions(evaluation: ListEvaluation, grouping: Grouping) -> tuple[Condition, ...]:
    """Measures the error rates of every system in every condition.

    Args:
      evaluation: results on a list of M trials.
      grouping: condition of each of these trials.

    Returns:
      One entry for each condition, in the order of the grouping.
    """
    speakers = None
    if evaluation.enrol_speaker is not None and evaluation.test_speaker is not None:
        _, speakers = number_names(evaluation.enrol_speaker, evaluation.test_speaker)
    conditions = []
    for i, name in enumerate(grouping.names):
        members = np.flatnonzero(grouping.group == i)
        target = evaluation.trials.target[members]
        num_targets = int(np.count_nonzero(target))
        conditions.append(
            Condition(
                name=name,
                num_targets=num_targets,
                num_nontargets=len(members) - num_targets,
                num_speakers=None if speakers is None else len(np.unique([side[members] for side in speakers])),
                rates=tuple(_rates(system, members, target) for system in evaluation.systems),
            )
        )
    return tuple(conditions)


def _by_number(values: np.ndarray) -> tuple[list[str], np.ndarray]:
    known = np.isfinite(values)
    distinct = np.unique(values[known])
    if len(distinct) <= len(_QUANTILES) + 1:
        names = [f"{value:g}" for value in distinct]
        group = np.searchsorted(distinct, values)
    else:
        edges = np.unique([float(f"{edge:.2g}") for edge in np.quantile(values[known], _QUANTILES)])
        names = [
            f"below {edges[0]:g}",
            *(f"{low:g} to {high:g}" for low, high in pairwise(edges)),
            f"{edges[-1]:g} and more",
        ]
        group = np.searchsorted(edges, values, side="right")
    return [*names, _UNKNOWN], np.where(known, group, len(names))


def _by_word(
    values: tuple[str, ...], sides: list[Int32[np.ndarray, " M"]]
) -> tuple[list[str], Int32[np.ndarray, " M"]]:
    known = np.array([value != "" for value in values])
    low, high = np.minimum(*sides), np.maximum(*sides)
    if np.count_nonzero(known) > _MAX_PAIRED_VALUES:
        names, group = ["same", "different"], (low != high).astype(np.int32)
    else:
        names = [f"{one} / {other}" for one in values for other in values]
        group = low * len(values) + high
    return [*names, _UNKNOWN], np.where(known[low] & known[high], group, len(names))


def _rates(system: SystemScores, members: np.ndarray, target: np.ndarray) -> Rates:
    scores = system.scores[members]
    of_targets, of_nontargets = scores[target], scores[~target]
    enough_targets, enough_nontargets = len(of_targets) >= MIN_TRIALS, len(of_nontargets) >= MIN_TRIALS
    return Rates(
        eer=detection_curve(scores, target).equal_error_rate() if enough_targets and enough_nontargets else None,
        miss=float(np.mean(of_targets < system.threshold)) if enough_targets else None,
        false_alarm=float(np.mean(of_nontargets >= system.threshold)) if enough_nontargets else None,
    )
