"""Calibration: turns scores into log-likelihood ratios, and these into decisions (same, different or unsure)."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import scipy  # its parts load when they are first used
from annotated_types import Ge, Gt, Lt
from jaxtyping import Bool, Float64, Shaped

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.scoring.quality import Features
from mqmha_jax.field_checks import check_value

# Weight of the squared coefficients (of features scaled to deviation 1). The loss is log(2) for a constant score at
# prior 0.5. If the classes overlap, the ridge does not change the fourth digit. If a threshold separates them, no
# finite scale is best without it; with it the LLRs stay moderate.
RIDGE = 1e-6

_PRIOR = Annotated[float, Gt(0), Lt(1)]
_CONFIDENCE = Annotated[float, Ge(0.5), Lt(1)]


@dataclass(frozen=True)
class Calibration:
    """An affine map from the features of a trial to its natural-log likelihood ratio.

    Attributes:
      features: names of the d features, in order.
      coefficients: one for each.
      offset: added to the weighted sum.
      prior: of a target trial; the fit weighted the two classes for it.
    """

    features: tuple[str, ...]
    coefficients: tuple[float, ...]
    offset: float
    prior: float

    def llr(self, features: Features) -> Float64[np.ndarray, " M"]:
        """Log-likelihood ratios of M trials.

        Raises:
          UserError: other features than those of the fit.
        """
        if features.names != self.features:
            raise UserError(
                f"The calibration was fitted on {', '.join(self.features)}, but the trials have "
                f"{', '.join(features.names)}; valid: the same measures in the same order."
            )
        return features.values @ np.array(self.coefficients) + self.offset


class Decision(NamedTuple):
    """The decision on one trial.

    Attributes:
      verdict: same speaker, different speakers, or unsure.
      probability: of the same speaker.
    """

    verdict: Literal["same", "different", "unsure"]
    probability: float


def fit_calibration(
    features: Features, target: Shaped[np.ndarray, " M"], *, prior: float = 0.05, ridge: float = RIDGE
) -> Calibration:
    """Fits a logistic regression. The list must share no speakers with the lists that the calibration is used on.

    Minimises ``p mean_targets log(1 + exp(-(llr + logit p))) + (1 - p) mean_nontargets log(1 + exp(llr + logit p))``
    (Brümmer and du Preez, 2006) plus the ridge. With the score as the only feature it finds scale and offset; with
    quality measures it is QMF (Thienpondt et al., 2021).

    Args:
      features: of M trials, see ``score_feature`` and ``trial_features``.
      target: ``[M]`` booleans (or 0 and 1).
      prior: effective prior p of a target where decisions are made; the share of targets in this list does not matter.
      ridge: weight of the sum of squared coefficients, of features scaled to deviation 1; positive.

    Returns:
      The map.

    Raises:
      UserError: lengths differ, one class is missing, a feature is not finite or the same for all trials, a prior
        outside (0, 1).
    """
    # Imported here because it takes more than a second, and ``verify`` never fits.
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    target = _check(features, target, prior)
    centre, deviation = features.values.mean(axis=0), features.values.std(axis=0)
    constant = np.flatnonzero(deviation <= 1e-12 * np.maximum(np.abs(centre), 1))
    if constant.size:
        raise UserError(
            f"The feature {features.names[constant[0]]} is the same for all {len(target)} trials, so nothing can be "
            "learned from it; leave it out."
        )
    scaled = (features.values - centre) / deviation
    num_targets = np.count_nonzero(target)
    weight = np.where(target, prior / num_targets, (1 - prior) / (len(target) - num_targets))
    # Newton's method: the default solver leaves the scale up to a fifth off on a list that a threshold separates.
    regression = LogisticRegression(C=1 / (2 * ridge), solver="newton-cholesky", tol=1e-10)
    regression.fit(scaled, target, sample_weight=weight)
    coefficients = regression.coef_[0] / deviation
    # The intercept holds the prior's log odds, which a likelihood ratio leaves out.
    offset = regression.intercept_[0] - scipy.special.logit(prior) - coefficients @ centre
    return Calibration(
        features=features.names,
        coefficients=tuple(float(value) for value in coefficients),
        offset=float(offset),
        prior=float(prior),
    )


def check_decision_options(prior: Any, confidence: Any) -> None:
    """Refuses what ``decision`` cannot decide by, before any work.

    Raises:
      UserError: a prior outside (0, 1), or a confidence outside [0.5, 1).
    """
    check_value("prior", prior, _PRIOR)
    check_value("confidence", confidence, _CONFIDENCE)


def decision(llr: float, prior: float = 0.5, *, confidence: float = 0.9) -> Decision:
    """Decides one trial.

    Args:
      llr: calibrated natural-log likelihood ratio.
      prior: probability of the same speaker before the recordings were heard.
      confidence: below this probability of the likelier answer the verdict is "unsure"; 0.5 to 1, 0.5 always decides.

    Returns:
      Verdict and posterior probability.

    Raises:
      UserError: a prior outside (0, 1), a confidence outside [0.5, 1), or an llr that is not a number.
    """
    check_decision_options(prior, confidence)
    if np.isnan(llr):
        raise UserError("The log-likelihood ratio is nan; check the recordings and the calibration.")
    log_odds = llr + np.log(prior) - np.log1p(-prior)
    probability = float(np.exp(-np.logaddexp(0, -log_odds)))
    if max(probability, 1 - probability) < confidence:
        return Decision("unsure", probability)
    return Decision("same" if probability >= 0.5 else "different", probability)


def _check(features: Features, target: np.ndarray, prior: float) -> Bool[np.ndarray, " M"]:
    """Boolean targets, after the checks that make a fit meaningful."""
    check_value("prior", prior, _PRIOR)
    if len(features.values) != len(target):
        raise UserError(
            f"There are features of {len(features.values)} trials and labels of {len(target)}; valid: equal."
        )
    if not np.isin(target, (0, 1)).all():
        raise UserError(f"target has type {target.dtype} and other values than 0 and 1; valid: booleans.")
    broken = np.argwhere(~np.isfinite(features.values))
    if broken.size:
        row, column = broken[0]
        raise UserError(
            f"The feature {features.names[column]} of trial {row + 1} is {features.values[row, column]}; "
            "valid: finite numbers."
        )
    num_targets = int(np.count_nonzero(target))
    if num_targets in (0, len(target)):
        present = ("only nontarget", "only target")[num_targets > 0] if len(target) else "no"
        raise UserError(f"The list has {present} trials; calibration learns from both target and nontarget trials.")
    return target.astype(np.bool_)
