"""The one way from embeddings and a trial list to error rates, in training and on the command line."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from mqmha_jax.evaluation.metrics import detection_curve
from mqmha_jax.evaluation.scoring import cosine_scores
from mqmha_jax.types import Embeddings, Trials

# Priors of a target trial in the field's tables: 0.01 (VoxCeleb, NIST SRE) and 0.05 (VoxSRC); both costs are 1.
P_TARGETS = (0.01, 0.05)


class TrialResult(NamedTuple):
    """What a network scored on one trial list.

    Attributes:
      name: of the list.
      trials: the M trials.
      scores: ``[M]`` cosines.
      eer: equal error rate, a fraction.
      threshold: score of a decision at the equal error rate.
      min_dcf: normalised minimum detection cost of each prior in ``P_TARGETS``.
      num_speakers: speakers in the list, None where they are not known.
    """

    name: str
    trials: Trials
    scores: Float32[np.ndarray, " M"]
    eer: float
    threshold: float
    min_dcf: Mapping[float, float]
    num_speakers: int | None

    @property
    def num_targets(self) -> int:
        """Trials of the same speaker."""
        return int(np.count_nonzero(self.trials.target))

    @property
    def num_nontargets(self) -> int:
        """Trials of different speakers."""
        return len(self.trials.target) - self.num_targets


def evaluate_trials(
    embeddings: Embeddings,
    trials: Trials,
    *,
    mean: Float[np.ndarray, " E"] | None = None,
    name: str = "",
    utt2spk: Mapping[str, str] | None = None,
) -> TrialResult:
    """Scores a trial list by cosine and measures the errors.

    Args:
      embeddings: of all utterances in the list, ``[N, E]``.
      trials: M trials.
      mean: ``[E]``, subtracted from every embedding first (usually the mean of the training set).
      name: of the list, for tables and file names.
      utt2spk: speaker of each utterance, to count them; utterances outside the list do no harm.

    Returns:
      Scores, equal error rate, minimum detection costs and counts.

    Raises:
      UserError: see ``cosine_scores`` and ``detection_curve``.
    """
    return measure_trials(cosine_scores(embeddings, trials, mean=mean), trials, name=name, utt2spk=utt2spk)


def measure_trials(
    scores: Float32[np.ndarray, " M"], trials: Trials, *, name: str = "", utt2spk: Mapping[str, str] | None = None
) -> TrialResult:
    """Measures the errors of scores that were made in any way, e.g. by ``as_norm``.

    Args:
      scores: ``[M]``, higher for "same speaker".
      trials: M trials.
      name: of the list, for tables and file names.
      utt2spk: as in ``evaluate_trials``.

    Returns:
      The scores, equal error rate, minimum detection costs and counts.

    Raises:
      UserError: see ``detection_curve``.
    """
    curve = detection_curve(scores, trials.target)
    speakers = {utt2spk.get(utterance) for utterance in {*trials.enrol, *trials.test}} if utt2spk else {None}
    return TrialResult(
        name=name,
        trials=trials,
        scores=scores,
        eer=curve.equal_error_rate(),
        threshold=curve.equal_error_threshold(),
        min_dcf={p_target: curve.min_dcf(p_target) for p_target in P_TARGETS},
        num_speakers=None if None in speakers else len(speakers),
    )
