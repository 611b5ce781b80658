"""Classification with a margin and the inter-topK penalty, the second half of the paper (arXiv 2110.05042)."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int, Int32

from mqmha_jax.losses.class_reducer import ClassReducer
from mqmha_jax.losses.margins.pair import Example, MarginPair, Scalar

Metrics = dict[str, Float[Array, " B"]]


def margin_softmax(
    classes: ClassReducer,
    example: Example,
    *,
    margin_pair: MarginPair,
    scale: float,
    margin: Scalar,
    top_k: int = 0,
    penalty: Scalar = 0.0,
    penalised_above: Scalar | None = None,
    hard_negatives: float = 0.0,
    label_smoothing: float = 0.0,
) -> tuple[Float[Array, " B"], Metrics, Int32[Array, "B k"]]:
    """The loss over cosines, after the margin and what is done to negatives.

    With ``P`` the ``top_k`` other speakers nearest to the example, chosen afresh at every step and without gradient::

        loss = -log(exp(s t_y) / (exp(s t_y) + sum_{j != y} exp(s phi_j)))

    where ``t_y`` is the speaker's cosine after the margin and ``phi_j`` another speaker's, penalised if j is in P.
    Other pairs have other logits, or a decision per class in place of the softmax; see ``MarginPair``.

    Args:
      classes: the cosines of a batch, in any layout.
      example: what else the pair looks at, with norms ``[B]``.
      margin_pair: what margin and penalty do to a cosine.
      scale: s.
      margin: m.
      top_k: how many others are penalised, below the number of speakers; 0: none.
      penalty: m'.
      penalised_above: P is all others whose cosine is above this one, few or many, in place of the ``top_k`` nearest.
      hard_negatives: w; the negatives above ``t_y`` become ``phi_j + w (phi_j + 1)`` (Wang et al., MV-Softmax, arXiv
        1912.00833, eq. 9 with t = 1 + w); 0: left alone.
      label_smoothing: share of the label that all classes have in equal parts.

    Returns:
      The loss per example; per example ``accuracy`` (1 where the speaker's plain cosine is the largest),
      ``target_cosine``, ``top_negative_cosine``, the mean over the ``top_k`` (at least 1) nearest others,
      ``mean_negative_cosine``, the mean over all others, and ``reached_margin``, by how many radians the speaker is
      nearer than the nearest other; and the classes of the nearest others.
    """
    target_cosine = classes.target_cosine()
    nearest = classes.top_negatives(max(top_k, 1))
    target = margin_pair.target(target_cosine, margin, example)
    against_classes = example._replace(norm=example.norm[:, None])

    def logits(cosine: Float[Array, "B c"], speaker: Int[Array, " c"]) -> Float[Array, "B c"]:
        negative = margin_pair.negative(cosine, target[:, None], margin, against_classes)
        if hard_negatives:
            negative = jnp.where(cosine > target[:, None], negative + hard_negatives * (negative + 1), negative)
        if top_k:
            penalised = margin_pair.penalise(negative, penalty)
            near = nearest.contain(cosine, speaker) if penalised_above is None else cosine > penalised_above
            negative = jnp.where(near, penalised, negative)
        return margin_pair.logit(negative, scale, against_classes)

    loss = margin_pair.classification(
        classes, margin_pair.logit(target, scale, example), logits, scale, label_smoothing
    )
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
