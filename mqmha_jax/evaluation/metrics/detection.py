"""Detection metrics, exact with ties and with weighted trials.

Each distinct score is one operating point of "accept if score >= threshold". All metrics, Cllr included, depend on the
list only through the two error rates at these points. So they are methods of ``DetectionCurve``, with the functions
below as short forms, and the bootstrap (``bootstrap.py``) measures one curve per resample in the same way.
"""

from typing import NamedTuple

import numpy as np
import scipy  # its parts load when they are first used
from jaxtyping import Float, Int

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.numbers import Numbers, as_numbers


class DetectionCurve(NamedTuple):
    """Error rates at each of the P distinct scores, and at infinity, where nothing is accepted; threshold ascends.

    Attributes:
      threshold: ``[P]`` distinct scores, ascending, then infinity.
      miss: share of the (weight of the) targets below each threshold: ascends from 0 to 1.
      false_alarm: share of the nontargets at or above each threshold: descends from 1 to 0.
    """

    threshold: Float[np.ndarray, " P"]
    miss: Float[np.ndarray, " P"]
    false_alarm: Float[np.ndarray, " P"]

    def equal_error_rate(self) -> float:
        """Where miss and false alarm meet, as a fraction; linear between the two adjacent operating points."""
        above = self._first_above()
        miss, false_alarm = self.miss[above - 1 : above + 1], self.false_alarm[above - 1 : above + 1]
        (gap_below, gap_above) = miss - false_alarm
        return float(miss[0] + (miss[1] - miss[0]) * gap_below / (gap_below - gap_above))

    def equal_error_threshold(self) -> float:
        """A finite threshold for decisions near the equal error rate.

        It takes the one of the two adjacent operating points whose larger error is smaller. All thresholds between that
        score and the next lower one decide this list in the same way; their middle is the safest for other scores.
        """
        above = self._first_above()
        worse = np.maximum(self.miss, self.false_alarm)
        point = above if above < len(self.threshold) - 1 and worse[above] <= worse[above - 1] else above - 1
        return float(np.mean(self.threshold[max(point - 1, 0) : point + 1], dtype=np.float64))

    def detection_cost(self, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> Float[np.ndarray, " P"]:
        """Normalised cost of each operating point; 1 is the cost of accepting all or none, whichever is cheaper.

        ``(c_miss p miss + c_fa (1 - p) false_alarm) / min(c_miss p, c_fa (1 - p))`` (NIST SRE).

        Args:
          p_target: prior probability p of a target trial, between 0 and 1.
          c_miss: cost of rejecting a target.
          c_fa: cost of accepting a nontarget.

        Raises:
          UserError: a prior outside (0, 1) or a cost that is not positive.
        """
        miss_weight, false_alarm_weight = _cost_weights(p_target, c_miss, c_fa)
        cost = miss_weight * self.miss + false_alarm_weight * self.false_alarm
        return cost / min(miss_weight, false_alarm_weight)

    def min_dcf(self, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
        """The smallest ``detection_cost`` over all thresholds: the cost with the best threshold."""
        return float(self.detection_cost(p_target, c_miss, c_fa).min())

    def act_dcf(self, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
        """The ``detection_cost`` at the Bayes threshold ``log(c_fa (1 - p) / (c_miss p))``: the cost of real decisions.

        Scores must be natural-log likelihood ratios. The excess over ``min_dcf`` is the cost of miscalibration.
        """
        point = np.searchsorted(self.threshold, bayes_threshold(p_target, c_miss, c_fa))
        at_threshold = DetectionCurve(*(values[point : point + 1] for values in self))
        return float(at_threshold.detection_cost(p_target, c_miss, c_fa)[0])

    def cllr(self) -> float:
        """Cost of log-likelihood ratios in bits (Brümmer and du Preez, 2006).

        The mean over targets of ``log2(1 + exp(-score))`` and the mean over nontargets of ``log2(1 + exp(score))``,
        averaged. 0 is perfect, 1 is the cost of a constant score of 0. Scores must be natural-log likelihood ratios.
        """
        targets, nontargets = self._masses()
        llr = self.threshold[:-1].astype(np.float64)
        target_cost = np.logaddexp(0, -llr)
        nontarget_cost = target_cost + llr  # log(1 + exp(llr)), without another exponential
        return float(np.sum(targets * target_cost + nontargets * nontarget_cost) / 2 / np.log(2))

    def min_cllr(self) -> float:
        """The smallest ``cllr`` that a monotone map of the scores reaches on this list.

        The map is the isotonic regression of "is a target" on the score (pool adjacent violators), with equal weight
        for both classes. A pool with target share q then costs its weight times the binary entropy of q.
        """
        targets, nontargets = self._masses()
        weight = targets + nontargets
        held = weight > 0  # all trials at a point may have weight 0
        targets, weight = targets[held], weight[held]
        share = scipy.optimize.isotonic_regression(targets / weight, weights=weight).x.clip(0, 1)
        return float(np.sum(weight * (scipy.special.entr(share) + scipy.special.entr(1 - share))) / 2 / np.log(2))

    def _first_above(self) -> int:
        """Index of the first point with miss >= false alarm; at least 1, because miss is 0 at the lowest score."""
        return int(np.argmax(self.miss >= self.false_alarm))

    def _masses(self) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
        """Shares of the targets and of the nontargets that have each distinct score."""
        return np.diff(self.miss), -np.diff(self.false_alarm)


class SortedTrials(NamedTuple):
    """A scored list in ascending order; curves of differently weighted trials then need no sorting.

    Attributes:
      targets: ``[m]`` the m target trials in ascending order of their score.
      nontargets: ``[M - m]`` the others.
      threshold: ``[P]`` the distinct scores, ascending, and infinity.
      targets_below: ``[P]`` how many targets score less than each threshold.
      nontargets_below: ``[P]`` how many nontargets do.
    """

    targets: Int[np.ndarray, " m"]
    nontargets: Int[np.ndarray, " _"]
    threshold: Float[np.ndarray, " P"]
    targets_below: Int[np.ndarray, " P"]
    nontargets_below: Int[np.ndarray, " P"]

    def curve(self) -> DetectionCurve:
        """The operating points, with equal weight for all trials."""
        return _curve(self.threshold, self.targets_below, self.nontargets_below)

    def weighted_curve(
        self, target_weights: Float[np.ndarray, " m"], nontarget_weights: Float[np.ndarray, " _"]
    ) -> DetectionCurve:
        """The operating points of weighted trials.

        Args:
          target_weights: weight of each trial in ``targets``, in this order; not all 0.
          nontarget_weights: the same for ``nontargets``.
        """
        return _curve(
            self.threshold,
            np.concatenate([[0], np.cumsum(target_weights)])[self.targets_below],
            np.concatenate([[0], np.cumsum(nontarget_weights)])[self.nontargets_below],
        )


def sort_trials(scores: Numbers, target: Numbers) -> SortedTrials:
    """Sorts a scored list once, in O(M log M); arguments and errors as in ``detection_curve``."""
    scores, target = _check(scores, target)
    targets, nontargets = (members[np.argsort(scores[members])] for members in map(np.flatnonzero, (target, ~target)))
    return SortedTrials(targets, nontargets, *_counts_below(scores, target))


def detection_curve(
    scores: Numbers,
    target: Numbers,
    weights: Numbers | None = None,
) -> DetectionCurve:
    """All operating points of a scored trial list, in O(M log M).

    Args:
      scores: ``[M]`` finite numbers, as an array or a list; higher means "more likely the same speaker".
      target: ``[M]`` booleans (or 0 and 1).
      weights: ``[M]`` weight of each trial, not negative; None: equal weights. A weight of 3 equals three copies of the
        trial.

    Returns:
      The curve: at most M + 1 points.

    Raises:
      UserError: lengths differ, a score is not finite, a weight is not finite or negative, or one of the two classes
        is missing or has no weight.
    """
    if weights is None:
        return _curve(*_counts_below(*_check(scores, target)))
    trials = sort_trials(scores, target)
    weights, num_trials = as_numbers(weights, "weights"), len(trials.targets) + len(trials.nontargets)
    if weights.shape != (num_trials,):
        raise UserError(f"There are {weights.size} weights for {num_trials} trials; valid: one weight for each trial.")
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if wrong.size:
        raise UserError(f"The weight of trial {wrong[0] + 1} is {weights[wrong[0]]}; valid: finite, not negative.")
    of_targets, of_nontargets = weights[trials.targets], weights[trials.nontargets]
    for kind, own in (("target", of_targets), ("nontarget", of_nontargets)):
        if not own.any():
            raise UserError(f"All {kind} trials have weight 0; error rates need both classes.")
    return trials.weighted_curve(of_targets.astype(np.float64), of_nontargets.astype(np.float64))


def equal_error_rate(scores: Numbers, target: Numbers) -> float:
    """Equal error rate as a fraction; arguments and errors as in ``detection_curve``."""
    return detection_curve(scores, target).equal_error_rate()


def min_dcf(
    scores: Numbers,
    target: Numbers,
    p_target: float,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> float:
    """Minimum normalised detection cost (NIST SRE); arguments as in ``detection_curve`` and its ``detection_cost``."""
    return detection_curve(scores, target).min_dcf(p_target, c_miss, c_fa)


def act_dcf(
    scores: Numbers,
    target: Numbers,
    p_target: float,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> float:
    """Normalised detection cost of calibrated scores at the Bayes threshold, see ``DetectionCurve.act_dcf``."""
    return detection_curve(scores, target).act_dcf(p_target, c_miss, c_fa)


def cllr(scores: Numbers, target: Numbers) -> float:
    """Cost of log-likelihood ratios in bits, see ``DetectionCurve.cllr``; calibrate cosines first."""
    return detection_curve(scores, target).cllr()


def min_cllr(scores: Numbers, target: Numbers) -> float:
    """``cllr`` after the best monotone map of the scores, see ``DetectionCurve.min_cllr``."""
    return detection_curve(scores, target).min_cllr()


def bayes_threshold(p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """The log-likelihood ratio above which accepting has the lower expected cost, see ``detection_cost``."""
    miss_weight, false_alarm_weight = _cost_weights(p_target, c_miss, c_fa)
    return float(np.log(false_alarm_weight / miss_weight))


def _counts_below(scores: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct scores and infinity, and the numbers of targets and nontargets below each.

    Sorting the scores and locating the targets among them is several times faster than sorting the trials.
    """
    ascending = np.sort(scores)
    # A tie is one operating point: it starts where the sorted score changes.
    starts = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))
    distinct = ascending[starts]
    targets_at = np.bincount(np.searchsorted(distinct, np.sort(scores[target])), minlength=len(distinct) + 1)
    targets_below = np.cumsum(targets_at) - targets_at
    return np.append(distinct, np.inf), targets_below, np.append(starts, len(scores)) - targets_below


def _curve(threshold: np.ndarray, targets_below: np.ndarray, nontargets_below: np.ndarray) -> DetectionCurve:
    """Error rates from the counts (or weights) of trials below each threshold; all are below the last one."""
    num_nontargets = nontargets_below[-1]
    return DetectionCurve(
        threshold, targets_below / targets_below[-1], (num_nontargets - nontargets_below) / num_nontargets
    )


def _cost_weights(p_target: float, c_miss: float, c_fa: float) -> tuple[float, float]:
    """Weights of the two error rates in the expected cost."""
    if not 0 < p_target < 1:
        raise UserError(f"p_target is {p_target}; valid: a probability between 0 and 1, both excluded.")
    if not (0 < c_miss < np.inf and 0 < c_fa < np.inf):
        raise UserError(f"Detection costs are c_miss={c_miss} and c_fa={c_fa}; valid: positive numbers.")
    return c_miss * p_target, c_fa * (1 - p_target)


def _check(scores: Numbers, target: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Scores and boolean targets as arrays, or the reason why they cannot be evaluated."""
    scores, target = as_numbers(scores, "scores"), as_numbers(target, "targets")
    if scores.ndim != 1:
        raise UserError(f"The scores have shape {scores.shape}; valid: one dimension [M], one score for each trial.")
    if scores.shape != target.shape:
        raise UserError(f"There are {scores.size} scores for {target.size} trials; valid: one score for each trial.")
    if target.dtype != np.bool_:
        if not np.isin(target, (0, 1)).all():
            raise UserError(f"target has type {target.dtype} and other values than 0 and 1; valid: booleans.")
        target = target.astype(np.bool_)
    broken = np.flatnonzero(~np.isfinite(scores))
    if broken.size:
        raise UserError(
            f"{broken.size} of {scores.size} scores are not finite, first trial {broken[0] + 1} ({scores[broken[0]]}); "
            "check the embeddings of its utterances."
        )
    num_targets = int(np.count_nonzero(target))
    if num_targets in (0, target.size):
        kind = "target" if num_targets else "nontarget"
        present = f"only {kind} trials ({target.size})" if target.size else "no trials"
        raise UserError(f"The list has {present}; error rates need at least one target and one nontarget trial.")
    return scores, target
