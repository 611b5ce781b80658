"""What is measured on a trial list: each system's metrics with their intervals."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mqmha_jax.data.metadata import Column
from mqmha_jax.types import Trials


class Measured(NamedTuple):
    """A metric with its 95 % bootstrap interval over speakers; None where speakers are unknown or too few.

    Attributes:
      value: of the whole list.
      low: lower end of the interval.
      high: upper end.
    """

    value: float
    low: float | None
    high: float | None


class SystemScores(NamedTuple):
    """One way of scoring one list.

    Attributes:
      name: "cosine", "as-norm", "lda-cosine", "plda" and so on, the same with " calibrated" appended, or the name of a
        score file.
      scores: ``[M]``.
      metrics: in the order of the table: "EER", "minDCF 0.01", "minDCF 0.05", further priors; if calibrated, also
        "actDCF 0.01", "Cllr", "minCllr". Costs of a miss and a false alarm other than 1 follow the prior:
        "minDCF 0.01 (10:1)".
      threshold: for decisions at the equal error rate.
      calibrated: the scores are log-likelihood ratios.
    """

    name: str
    scores: Float[np.ndarray, " M"]
    metrics: Mapping[str, Measured]
    threshold: float
    calibrated: bool


class ListEvaluation(NamedTuple):
    """One trial list with all its systems, and the facts about its utterances.

    Attributes:
      name: of the list.
      trials: M trials.
      enrol_speaker: speaker of each trial's enrolment side, M; None where unknown.
      test_speaker: the same for the test side.
      attributes: the columns of the metadata on both sides of each trial, such as "gender" or "seconds".
      systems: the trials as several systems scored them.
      num_speakers: None where unknown.
      reliable: False below 20 speakers, where intervals over speakers say little.
    """

    name: str
    trials: Trials
    enrol_speaker: tuple[str, ...] | None
    test_speaker: tuple[str, ...] | None
    attributes: Mapping[str, Column]
    systems: tuple[SystemScores, ...]
    num_speakers: int | None
    reliable: bool
