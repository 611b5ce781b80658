"""Where a system errs: the speaker pairs it confuses most, and the single trials that it gets most wrong."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from mqmha_jax.data.lists import number_names
from mqmha_jax.evaluation.metrics.results import ListEvaluation, SystemScores

_DEVIATE = 1.96  # of a normal distribution, leaves 2.5 % on either side


class ConfusedPair(NamedTuple):
    """Two speakers whose trials a system accepts as of one speaker.

    Attributes:
      speakers: the two, in alphabetical order.
      num_trials: nontarget trials of the two.
      num_accepted: of these, at or above the threshold.
      mean_score: of these trials.
      highest_score: of these trials.
    """

    speakers: tuple[str, str]
    num_trials: int
    num_accepted: int
    mean_score: float
    highest_score: float


class HardestTrials(NamedTuple):
    """The trials whose scores are furthest on the wrong side, worst first.

    Attributes:
      targets: positions of the targets with the lowest scores.
      nontargets: positions of the nontargets with the highest scores.
    """

    targets: Int64[np.ndarray, " _"]
    nontargets: Int64[np.ndarray, " _"]


class Changes(NamedTuple):
    """What became of the decisions of one system in another one, each with its own threshold.

    Attributes:
      mended: trials decided wrongly by the first and rightly by the second.
      spoiled: the other way round.
      both_wrong: decided wrongly by both.
    """

    mended: int
    spoiled: int
    both_wrong: int


def confused_pairs(evaluation: ListEvaluation, system: SystemScores, count: int) -> list[ConfusedPair]:
    """The speaker pairs with the highest rates of false alarms; of equal ones, those with the higher mean score first.

    Rates are ranked by the lower end of their 95 % interval (Wilson, 1927), so that no pair leads by a single trial.

    Args:
      evaluation: of a list of M trials; with unknown speakers there are no pairs.
      system: one of its systems, whose threshold decides.
      count: how many at most; pairs without a false alarm are left out.
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


def hardest_trials(evaluation: ListEvaluation, system: SystemScores, count: int) -> HardestTrials:
    """The targets with the lowest and the nontargets with the highest scores, whether or not they are decided wrongly.

    Args:
      evaluation: of a list of M trials.
      system: one of its systems.
      count: how many of each class at most.
    """
    target = evaluation.trials.target
    return HardestTrials(
        targets=_lowest(system.scores, np.flatnonzero(target), count),
        nontargets=_lowest(-system.scores, np.flatnonzero(~target), count),
    )


def changed_decisions(evaluation: ListEvaluation, before: SystemScores, after: SystemScores) -> Changes:
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
    """The members with the lowest values, ascending; of equal ones those that come first."""
    own = values[members]
    if len(own) > count:  # without sorting millions; ties with the last place are still among these
        limit = np.partition(own, count - 1)[count - 1]
        members, own = members[own <= limit], own[own <= limit]
    return members[np.argsort(own, kind="stable")[:count]]
