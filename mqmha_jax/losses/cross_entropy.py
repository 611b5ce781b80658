"""Turns a target and its negatives into a loss: one decision among all classes, or one decision for each class."""

from typing import Protocol, runtime_checkable

import jax
from jax import Array
from jaxtyping import Float

from mqmha_jax.losses.class_reducer import ClassReducer, LogitFunction
from mqmha_jax.losses.negative_shifts import Scalar


@runtime_checkable
class Classification(Protocol):
    """``(classes, target logit [B], logits of the others, scale s, label smoothing) -> loss [B]``."""

    def __call__(
        self, classes: ClassReducer, target: Float[Array, " B"], logits: LogitFunction, scale: Scalar, smoothing: float
    ) -> Float[Array, " B"]: ...


def cross_entropy(
    classes: ClassReducer, target: Float[Array, " B"], logits: LogitFunction, scale: Scalar, smoothing: float
) -> Float[Array, " B"]:
    """``-log(e^{z_y} / (e^{z_y} + sum_j e^{z_j}))``, against labels that are smoothed over all classes.

    Args:
      classes: cosines of a batch, in any layout.
      target: z_y.
      logits: maps the cosines of other speakers to z_j.
      scale: s; the logits contain it already.
      smoothing: share of the label that all C classes have in equal parts (Szegedy et al., arXiv 1512.00567).
    """
    # -log(e^z / (e^z + e^n)) = softplus(n - z), which keeps its digits when the loss is small.
    loss = jax.nn.softplus(classes.log_sum_exp(logits) - target)
    # The mean over all classes needs the sum of the logits alone, so smoothing fits the same contract as the softmax.
    if smoothing:
        loss += smoothing * (target - (target + classes.sum(logits)) / classes.num_classes)
    return loss


def binary_cross_entropy(positive_share: float) -> Classification:
    """Decides for each class whether the example belongs to it (Wen et al., SphereFace2, arXiv 2108.01513, eq. 6).

    Args:
      positive_share: lambda, weight of the target; all negatives together have the rest.

    Returns:
      ``(lambda softplus(-z_y) + (1 - lambda) sum_j softplus(z_j)) / s``, with the labels 1 - smoothing / 2 and
      smoothing / 2 in place of 1 and 0.
    """

    def loss(
        classes: ClassReducer, target: Float[Array, " B"], logits: LogitFunction, scale: Scalar, smoothing: float
    ) -> Float[Array, " B"]:
        # softplus(z) - y z is the cross-entropy with label y.
        positive = jax.nn.softplus(target) - (1 - smoothing / 2) * target

        def negative(cosine: Float[Array, "B c"], speaker: Array) -> Float[Array, "B c"]:
            z = logits(cosine, speaker)
            return jax.nn.softplus(z) - smoothing / 2 * z

        return (positive_share * positive + (1 - positive_share) * classes.sum(negative)) / scale

    return loss
