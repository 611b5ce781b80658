"""Turns the scores of all enrolled speakers into probabilities and an answer."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mqmha_jax.evaluation.scoring.calibration import Calibration, check_decision_options
from mqmha_jax.evaluation.scoring.quality import Features
from mqmha_jax.evaluation.scoring.systems import select_features
from mqmha_jax.field_checks import check_value
from mqmha_jax.store.identification import Verdict
from mqmha_jax.store.search import Centres, find_highest


class Measures(NamedTuple):
    """Quality measures of a recording, as the calibration knows them: natural logarithms."""

    log_norm: float
    log_duration: float


_SIDES = {"min": np.minimum, "max": np.maximum}


class Decision(NamedTuple):
    """An answer, with the nearest speakers.

    Attributes:
      verdict: as in ``Identification``.
      nearest: positions of the nearest speakers, the nearest first.
      probabilities: of these; None without a calibration.
      nobody: probability that nobody enrolled speaks; None without a calibration.
      threshold: that decided; None if a calibration did, or if there is none.
    """

    verdict: Verdict | None
    nearest: Int64[np.ndarray, " n"]
    probabilities: Float64[np.ndarray, " n"] | None
    nobody: float | None
    threshold: float | None


class Rule(NamedTuple):
    """How scores become an answer.

    Attributes:
      calibration: decides if there is one.
      threshold: else the lowest score of a match; None: there is no answer.
      prior: probability that an enrolled speaker speaks, before listening; all are equally likely.
      confidence: with a calibration, the answer is "unsure" if the likeliest one is less probable.
    """

    calibration: Calibration | None
    threshold: float | None
    prior: float = 0.5
    confidence: float = 0.9

    def check(self) -> None:
        """Refuses invalid thresholds and probabilities.

        Raises:
          UserError: threshold, prior or confidence is out of range.
        """
        check_decision_options(self.prior, self.confidence)
        if self.threshold is not None:
            check_value("threshold", self.threshold, float)

    def decide(self, scores: Float32[np.ndarray, " P"], centres: Centres, measures: "Measures", top_n: int) -> Decision:
        """Decides which of P speakers speaks in a recording.

        Args:
          scores: of the recording with each speaker.
          centres: of the speakers.
          measures: of the recording.
          top_n: maximum number of nearest speakers.

        Raises:
          UserError: the calibration needs a measure that is not known here.
        """
        if self.calibration is not None:
            llr = likelihood_ratios(self.calibration, scores, centres, measures)
            every, nobody = posterior(llr, self.prior)
            nearest = find_highest(every, top_n)
            likeliest = max(nobody, *every[nearest[:1]].tolist(), 0.0)
            verdict: Verdict = "unsure" if likeliest < self.confidence else "nobody" if likeliest == nobody else "match"
            return Decision(verdict, nearest, every[nearest], nobody, None)
        nearest = find_highest(scores, top_n)
        if not len(scores):
            return Decision("nobody", nearest, None, None, self.threshold)
        if self.threshold is None:
            return Decision(None, nearest, None, None, None)
        matches = scores[nearest[0]] >= self.threshold
        return Decision("match" if matches else "nobody", nearest, None, None, self.threshold)


def likelihood_ratios(
    calibration: Calibration, scores: Float32[np.ndarray, " P"], centres: Centres, measures: Measures
) -> Float64[np.ndarray, " P"]:
    """Log-likelihood ratios of P speakers: the recording is of this speaker, against: it is of another person.

    Args:
      calibration: of the scores.
      scores: of the recording with each speaker.
      centres: of the speakers.
      measures: of the recording.

    Raises:
      UserError: the calibration needs a measure that is not known here.
    """
    columns = {"score": scores}
    for name in calibration.features:  # a million speakers: only what is needed
        measure, _, side = name.rpartition("_")
        if measure in Measures._fields and side in _SIDES:
            columns[name] = _SIDES[side](getattr(centres, measure), np.float32(getattr(measures, measure)))
    known = Features(tuple(columns), np.stack(list(columns.values()), axis=1).astype(np.float64))
    return calibration.llr(select_features(known, calibration.features))


def posterior(llr: Float64[np.ndarray, " P"], prior: float) -> tuple[Float64[np.ndarray, " P"], float]:
    """Probability of each enrolled speaker, and that nobody enrolled speaks; they sum to 1.

    Bayes' rule for an open set: ``p_i = prior / P exp(llr_i)``, and ``1 - prior`` for nobody, divided by their sum.

    Args:
      llr: log-likelihood ratio of each speaker.
      prior: probability that an enrolled speaker speaks, before listening; all are equally likely.
    """
    log_odds = llr + np.log(prior / max(1, len(llr))) - np.log1p(-prior)  # of each speaker against nobody
    highest = max(0.0, float(log_odds.max(initial=0.0)))
    weights, nobody = np.exp(log_odds - highest), np.exp(-highest)
    total = weights.sum() + nobody
    return weights / total, float(nobody / total)
