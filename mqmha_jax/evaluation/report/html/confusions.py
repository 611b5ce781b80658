"""Finds where a system errs: the speaker pairs that it confuses most and the trials that it gets most wrong."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from mqmha_jax.data.lists import number_names
from mqmha_jax.evaluation.metrics.results import ListEvaluation, SystemScores

_DEVIATE = 1.96  # a normal distribution has 2.5 % beyond it on either side


class ConfusedPair(NamedTuple):
    """Two speakers whom a system takes for one.

    Attributes:
      speakers: the two, in alphabetical order.
      num_trials: number of nontarget trials between the two.
      num_accepted: number of these trials at or above the threshold.
      mean_score: mean score of these trials.
      highest_score: highest score of these trials.
    """

    speakers: tuple[str, str]
    num_trials: int
    num_accepted: int
    mean_score: float
    highest_score: float


class HardestTrials(NamedTuple):
    """The trials with the worst scores, worst first.

    Attributes:
      targets: positions of the targets with the lowest scores.
      nontargets: positions of the nontargets with the highest scores.
    """

    targets: Int64[np.ndarray, " _"]
    nontargets: Int64[np.ndarray, " _"]


class Changes(NamedTuple):
    """How the decisions of two systems differ, each with its own threshold.

    Attributes:
      mended: number of trials that the first decides wrongly and the second rightly.
      spoiled: number of trials that the first decides rightly and the second wrongly.
      both_wrong: number of trials that both decide wrongly.
    """

    mended: int
    spoiled: int
    both_wrong: int


def find_confused_pairs(evaluation: ListEvaluation, system: SystemScores, count: int) -> list[ConfusedPair]:
    """Finds the speaker pairs with the highest false alarm rates; the mean score breaks ties.

    Rates are ranked by the lower end of their 95 % interval (Wilson, 1927), so that no pair leads by a single trial.

    Args:
      evaluation: results on a list of M trials; unknown speakers give no pairs.
      system: one of its systems, whose threshold decides.
      count: maximum number of pairs; pairs without a false alarm are left out.
    """
    if evaluation.enrol_speaker is None or evaluation.test_speaker is None:
        return []
    nontarget = ~evaluation.trials.target
    names, sides = number_names(evaluation.enrol_speaker, evaluation.test_speaker)
    enrol, test = (side[nontarget].astype(np.int64) for side in sides)
    pairs, pair = np.unique(np.minimum(enrol, test) * len(names) + np.maximum(enrol, test), return_inverse=True)
    scores = system.scores[nontarget].astype(np.float64)
    num_trials = np.bincount(pair)
    accepted = np.bincount(pair, weights=scores >= system.threshold).astype(int)
    mean = np.bincount(pair, weights=scores) / num_trials
    highest = np.full(len(pairs), -np.inf)
    np.maximum.at(highest, pair, scores)
    order = np.lexsort((-mean, -_wilson_lower(accepted, num_trials)))[:count]
    return [
        ConfusedPair(
            speakers=(names[pairs[i] // len(names)], names[pairs[i] % len(names)]),
            num_trials=int(num_trials[i]),
            num_accepted=int(accepted[i]),
            mean_score=float(mean[i]),
            highest_score=float(highest[i]),
        )
        for i in order
        if accepted[i]
    ]


def find_hardest_trials(evaluation: ListEvaluation, system: SystemScores, count: int) -> HardestTrials:
    """Finds the targets with the lowest and the nontargets with the highest scores, right decisions included.

    Args:
      evaluation: results on a list of M trials.
      system: one of its systems.
      count: maximum number of trials of each class.
    """
    target = evaluation.trials.target
    return HardestTrials(
        targets=_lowest(system.scores, np.flatnonzero(target), count),
        nontargets=_lowest(-system.scores, np.flatnonzero(~target), count),
    )


def count_changed_decisions(evaluation: ListEvaluation, before: SystemScores, after: SystemScores) -> Changes:
    """Counts the trials that two systems of a list decide differently, and those that both decide wrongly."""
    was_wrong, is_wrong = (
        (system.scores >= system.threshold) != evaluation.trials.target for system in (before, after)
    )
    return Changes(
        mended=int(np.count_nonzero(was_wrong & ~is_wrong)),
        spoiled=int(np.count_nonzero(~was_wrong & is_wrong)),
        both_wrong=int(np.count_nonzero(was_wrong & is_wrong)),
    )


def _wilson_lower(successes: Int64[np.ndarray, " p"], tries: Int64[np.ndarray, " p"]) -> Float64[np.ndarray, " p"]:
    share, z = successes / tries, _DEVIATE
    half_width = z * np.sqrt(share * (1 - share) / tries + (z / (2 * tries)) ** 2)
    return (share + z**2 / (2 * tries) - half_width) / (1 + z**2 / tries)


def _lowest(values: np.ndarray, members: Int64[np.ndarray, " m"], count: int) -> Int64[np.ndarray, " _"]:
    """Returns the members with the lowest values, ascending; of equal values, the first."""
    own = values[members]
    if len(own) > count:  # avoids sorting millions; keeps all ties with the last place
        limit = np.partition(own, count - 1)[count - 1]
        members, own = members[own <= limit], own[own <= limit]
    return members[np.argsort(own, kind="stable")[:count]]
