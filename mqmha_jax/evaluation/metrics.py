"""Detection metrics, exact with ties: each distinct score is one operating point of "accept if score >= threshold"."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from mqmha_jax.errors import UserError


class DetectionCurve(NamedTuple):
    """Error rates at each of the P distinct scores, and at infinity where nothing is accepted; threshold ascends."""

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

        Of the two operating points around it, the one with the smaller larger error. Every threshold between that
        score and the next lower one decides this list alike; the middle is the safest for scores not in the list.
        """
        above = self._first_above()
        worse = np.maximum(self.miss, self.false_alarm)
        point = above if above < len(self.threshold) - 1 and worse[above] <= worse[above - 1] else above - 1
        return float(np.mean(self.threshold[max(point - 1, 0) : point + 1], dtype=np.float64))

    def detection_cost(self, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> Float[np.ndarray, " P"]:
        """Normalised cost of each operating point; 1 is what accepting all or none costs, whichever is cheaper.

        Args:
          p_target: prior probability of a target trial, between 0 and 1.
          c_miss: cost of rejecting a target.
          c_fa: cost of accepting a nontarget.

        Raises:
          UserError: a prior outside (0, 1) or a cost that is not positive.
        """
        if not 0 < p_target < 1:
            raise UserError(f"p_target is {p_target}; valid: a probability between 0 and 1, both excluded.")
        if not (c_miss > 0 and c_fa > 0):
            raise UserError(f"Detection costs are c_miss={c_miss} and c_fa={c_fa}; valid: positive numbers.")
        miss_weight, false_alarm_weight = c_miss * p_target, c_fa * (1 - p_target)
        cost = miss_weight * self.miss + false_alarm_weight * self.false_alarm
        return cost / min(miss_weight, false_alarm_weight)

    def min_dcf(self, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
        """The smallest ``detection_cost`` of all thresholds."""
        return float(self.detection_cost(p_target, c_miss, c_fa).min())

    def _first_above(self) -> int:
        """Index of the first point with miss >= false alarm; at least 1, because at the lowest score miss is 0."""
        return int(np.argmax(self.miss >= self.false_alarm))


def detection_curve(scores: Shaped[np.ndarray, " M"], target: Shaped[np.ndarray, " _"]) -> DetectionCurve:
    """All operating points of a scored trial list, in O(M log M).

    Args:
      scores: ``[M]``, finite; a higher score means "more likely the same speaker".
      target: ``[M]`` booleans (or 0 and 1).

    Returns:
      The curve: at most M + 1 points.

    Raises:
      UserError: lengths differ, a score is not finite, or one of the two classes is missing.
    """
    scores, target = _checked(scores, target)
    order = np.argsort(scores)
    ascending, is_target = scores[order], target[order]
    # A tie is one operating point: it starts where the sorted score changes.
    starts = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))
    targets_below = np.concatenate([[0], np.cumsum(is_target)])[np.append(starts, len(scores))]
    nontargets_below = np.append(starts, len(scores)) - targets_below
    num_targets, num_nontargets = targets_below[-1], nontargets_below[-1]
    return DetectionCurve(
        threshold=np.append(ascending[starts], np.inf),
        miss=targets_below / num_targets,
        false_alarm=(num_nontargets - nontargets_below) / num_nontargets,
    )


def equal_error_rate(scores: Shaped[np.ndarray, " M"], target: Shaped[np.ndarray, " _"]) -> float:
    """Equal error rate as a fraction; arguments and errors as in ``detection_curve``."""
    return detection_curve(scores, target).equal_error_rate()


def min_dcf(
    scores: Shaped[np.ndarray, " M"],
    target: Shaped[np.ndarray, " _"],
    p_target: float,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> float:
    """Minimum normalised detection cost (NIST SRE); arguments as in ``detection_curve`` and its ``detection_cost``."""
    return detection_curve(scores, target).min_dcf(p_target, c_miss, c_fa)


def cllr(scores: Shaped[np.ndarray, " M"], target: Shaped[np.ndarray, " _"]) -> float:
    """Cost of log-likelihood ratios in bits (Brümmer and du Preez, 2006): 0 is perfect, 1 is what a constant 0 costs.

    Args:
      scores: ``[M]`` natural-log likelihood ratios, finite; a raw cosine is none, so calibrate first.
      target: ``[M]`` booleans (or 0 and 1).

    Raises:
      UserError: as ``detection_curve``.
    """
    scores, target = _checked(scores, target)
    miss_bits = np.logaddexp(0, -scores[target].astype(np.float64)).mean() / np.log(2)
    false_alarm_bits = np.logaddexp(0, scores[~target].astype(np.float64)).mean() / np.log(2)
    return float((miss_bits + false_alarm_bits) / 2)


def _checked(scores: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and boolean targets, or the reason why they can not be evaluated."""
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
