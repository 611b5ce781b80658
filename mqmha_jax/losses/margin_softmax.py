"""Classification with a margin, as training computes it: over classes in any layout, with what is done to negatives."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int, Int32

from mqmha_jax.losses.class_reducer import ClassReducer
from mqmha_jax.losses.margins.margin import Example, Margin, Scalar
from mqmha_jax.losses.negative_shifts import Negatives, NegativeShift
from mqmha_jax.own_code.returns import call_elementwise, name_function, require_floats

Metrics = dict[str, Float[Array, " B"]]


def margin_softmax(
    classes: ClassReducer,
    example: Example,
    *,
    form: Margin,
    scale: float,
    margin: Scalar,
    shifts: Sequence[NegativeShift] = (),
    num_nearest: int = 1,
    label_smoothing: float = 0.0,
) -> tuple[Float[Array, " B"], Metrics, Int32[Array, "B k"]]:
    """Computes the loss over cosines after the margin and after the shifts of negatives.

    With ``t_y`` the speaker's cosine after the margin and ``phi_j`` another speaker's after the shifts::

        loss = -log(exp(s t_y) / (exp(s t_y) + sum_{j != y} exp(s phi_j)))

    Other forms have other logits, or a decision per class in place of the softmax; see ``Margin``. With the shift
    ``penalise_nearest`` this is the loss of ``inter_topk.py``.

    Args:
      classes: cosines of a batch, in any layout.
      example: what else the form looks at, with norms ``[B]``.
      form: what the margin does to a cosine.
      scale: s.
      margin: m.
      shifts: applied in order to the negatives.
      num_nearest: how many of the nearest other speakers are found, for shifts and metrics; at least 1.
      label_smoothing: share of the label that all classes have in equal parts.

    Returns:
      The loss per example; per example ``accuracy`` (1 where the speaker's plain cosine is the largest),
      ``target_cosine``, ``top_negative_cosine`` (mean over the nearest others), ``mean_negative_cosine`` (mean over all
      others) and ``reached_margin`` (by how many radians the speaker is nearer than the nearest other); and the classes
      of the nearest others.
    """
    target_cosine = classes.target_cosine()
    nearest = classes.top_negatives(num_nearest)
    target = call_elementwise("target", form.target, target_cosine, margin, example)
    against_classes = example._replace(norm=example.norm[:, None])

    # The reducer calls this once per chunk of classes, so a shift must decide from one slice and `nearest` alone.
    def logits(cosine: Float[Array, "B c"], speaker: Int[Array, " c"]) -> Float[Array, "B c"]:
        negative = call_elementwise("negative", form.negative, cosine, target[:, None], margin, against_classes)
        for shift in shifts:
            given = Negatives(cosine, speaker, target[:, None], nearest)
            negative = call_elementwise("shift", shift, negative, given)
        return call_elementwise("logit", form.logit, negative, scale, against_classes)

    logit = call_elementwise("logit", form.logit, target, scale, example)
    loss = form.classification(classes, logit, logits, scale, label_smoothing)
    decide = f"classification {name_function(form.classification)}"
    require_floats(loss, target_cosine.shape, decide, "the loss of each example")
    metrics = {
        "accuracy": (target_cosine > nearest.cosine[:, 0]).astype(loss.dtype),
        "target_cosine": target_cosine,
        "top_negative_cosine": nearest.cosine.mean(axis=1),
        "mean_negative_cosine": nearest.sum_of_all / (classes.num_classes - 1),
        "reached_margin": _angle(nearest.cosine[:, 0]) - _angle(lax.stop_gradient(target_cosine)),
    }
    return loss, metrics, nearest.speaker


def _angle(cosine: Float[Array, " B"]) -> Float[Array, " B"]:
    return jnp.arccos(jnp.clip(cosine, -1, 1))
