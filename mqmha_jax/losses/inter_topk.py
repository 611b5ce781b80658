"""The paper's second half: the softmax with a margin and the inter-topK penalty, whole.

Zhao, Ma, Ding, Zheng, Liu, Xu, *Multi-query multi-head attention pooling and Inter-topK penalty for speaker
verification*, ICASSP 2022, arXiv 2110.05042, section 2.

``theta_j`` is the angle between an embedding and speaker j, over K sub-centres the smallest of K angles; y is the
example's own speaker, s the scale, m the margin, m' the penalty. The loss of one example is::

    L = -log( exp(s t_y) / (exp(s t_y) + sum over j != y of exp(s phi_j)) )

    form    t_y                  phi_j for j in P        phi_j for all other j
    am      cos(theta_y) - m     cos(theta_j) + m'       cos(theta_j)
    aam     cos(theta_y + m)     cos(theta_j - m')       cos(theta_j)

P holds the ``top_k`` speakers other than y with the largest cosine. Each step chooses it afresh for each example, and
no gradient passes through the choice. So the margin moves the own speaker away, and the penalty moves the speakers that
are most easily confused with it closer: an example has to be nearer to its own speaker than to any other by m, and than
to one in P by m + m'. Usual values: ``top_k`` = 5 and m' = 0.06, beside m = 0.2, s = 30 to 36 and 3 sub-centres.

In aam a straight line continues a cosine where it would turn back and pull the wrong way: t_y where theta_y + m passes
pi, as everywhere in the field, and phi_j where theta_j is below m', a case that the paper leaves open.

The functions at the end are the loss for a training loop of one's own. Training here composes the same pieces in
``margin_softmax.py``, over classes in any layout; ``top_negatives.py`` finds P over chunks and devices.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.losses.angles import narrow, widen
from mqmha_jax.losses.check_inputs import as_float, check_examples, check_scalar, check_speakers, check_top_k
from mqmha_jax.losses.class_reducer import DenseClasses
from mqmha_jax.losses.cross_entropy import cross_entropy
from mqmha_jax.losses.negative_shifts import Negatives, NegativeShift, Penalise, Scalar
from mqmha_jax.models.head import nearest_cosines
from mqmha_jax.own_code.returns import call_elementwise

FormName = Literal["am", "aam"]


def subtract_margin(cosine: Float[Array, "..."], margin: Scalar) -> Float[Array, "..."]:
    """``cos(theta_y) - m``: the margin on the cosine."""
    return cosine - margin


def penalise_cosine(cosine: Float[Array, "..."], penalty: Scalar) -> Float[Array, "..."]:
    """``cos(theta_j) + m'``: the penalty on the cosine, beside an additive margin."""
    return cosine + penalty


def penalise_angle(cosine: Float[Array, "..."], penalty: Scalar) -> Float[Array, "..."]:
    """``cos(theta_j - m')``: the penalty on the angle, beside an additive angular margin; below m' a line."""
    return narrow(cosine, penalty)


def penalise_nearest(penalise: Penalise, penalty: Scalar) -> NegativeShift:
    """Penalises the speakers in P and leaves all others as they are.

    Args:
      penalise: :func:`penalise_cosine` or :func:`penalise_angle`.
      penalty: m'; may be traced, so a schedule can let it grow.
    """

    def shift(negative: Float[Array, "B c"], given: Negatives) -> Float[Array, "B c"]:
        in_p = given.nearest.contain(given.cosine, given.speaker)
        return jnp.where(in_p, call_elementwise("penalise", penalise, negative, penalty), negative)

    return shift


class Form(NamedTuple):
    """One line of the table above.

    Attributes:
      target: ``(cos(theta_y), m) -> t_y``.
      penalise: ``(cos(theta_j), m') -> phi_j`` for j in P.
    """

    target: Callable[[Float[Array, "..."], Scalar], Float[Array, "..."]]
    penalise: Penalise


FORMS: dict[FormName, Form] = {
    "am": Form(subtract_margin, penalise_cosine),
    "aam": Form(widen, penalise_angle),
}


def inter_topk_softmax(
    cosines: Float[Array | np.ndarray, "B C"],
    speaker: Int[Array | np.ndarray, " B"],
    *,
    scale: Scalar,
    margin: Scalar,
    penalty: Scalar,
    top_k: int,
    form: FormName = "am",
) -> Float[Array, " B"]:
    """Softmax cross-entropy with a margin and the inter-topK penalty.

    The ``top_k`` other speakers nearest to an example count as if they were nearer by ``penalty``, so that training
    separates the speakers that are most easily confused. Without margin and penalty this is
    ``optax.softmax_cross_entropy_with_integer_labels(scale * cosines, speaker)``.

    Args:
      cosines: ``[B,C]``, cosine of each example to each speaker; with sub-centres, to the nearest one.
      speaker: ``[B]``, integers, the own speaker of each example, 0 to C - 1.
      scale: s, which multiplies all cosines, e.g. 32. May be traced, as margin and penalty may.
      margin: m, e.g. 0.2; a cosine for ``"am"``, radians for ``"aam"``.
      penalty: m', e.g. 0.06, in the same unit.
      top_k: how many other speakers are penalised, e.g. 5; 0 to C - 1, where 0 switches the penalty off.
      form: ``"am"`` moves cosines (AM-softmax, CosFace), ``"aam"`` moves angles (AAM-softmax, ArcFace).

    Returns:
      ``[B]``, the loss of each example, not averaged; float32 (float64 for float64 cosines).

    Raises:
      UserError: shapes that do not fit, speakers that are not integers 0 to C - 1, ``top_k`` out of range, an unknown
        form, a scale that is not above 0, a negative margin or penalty. Under ``jax.jit`` the values of arguments are
        not known: there a speaker that does not exist gives NaN for its example, and scale, margin and penalty are
        taken as they are.

    Examples:
      >>> import jax.numpy as jnp
      >>> from mqmha_jax.losses import inter_topk_softmax
      >>> cosines = jnp.array([[0.8, 0.3, 0.1], [0.4, 0.5, 0.2]])
      >>> speaker = jnp.array([0, 1])
      >>> loss = inter_topk_softmax(cosines, speaker, scale=10.0, margin=0.2, penalty=0.06, top_k=1)
      >>> [f"{one:.2f}" for one in loss]
      ['0.09', '1.84']

    References:
      Zhao et al., `Multi-query multi-head attention pooling and Inter-topK penalty for speaker verification
      <https://arxiv.org/abs/2110.05042>`_, 2022
    """
    if form not in FORMS:
        raise unknown_name("form of the inter-topK loss", form, get_args(FormName))
    cosines, speaker = check_examples("cosines [B,C]", 2, cosines, speaker)
    check_top_k(top_k, cosines.shape[1], name="top_k")
    check_speakers(speaker, cosines.shape[1])
    check_scalar("scale", scale, above_zero=True)
    check_scalar("margin", margin)
    check_scalar("penalty", penalty)
    move = FORMS[form]
    classes = DenseClasses(cosines, speaker, cosines.shape[1])
    # At least one, because the shape of the search must be valid where no penalty uses its result.
    nearest = classes.top_negatives(max(top_k, 1))
    target = move.target(classes.target_cosine(), margin)
    penalise = penalise_nearest(move.penalise, penalty)

    def logits(cosine: Float[Array, "B c"], speaker: Int[Array, " c"]) -> Float[Array, "B c"]:
        negative = penalise(cosine, Negatives(cosine, speaker, target[:, None], nearest)) if top_k else cosine
        return scale * negative

    loss = cross_entropy(classes, scale * target, logits, scale, smoothing=0.0)
    # A class number that does not exist would otherwise give a plausible loss without a target.
    return jnp.where((speaker >= 0) & (speaker < cosines.shape[1]), loss, jnp.nan)


def inter_topk_softmax_with_prototypes(
    embeddings: Float[Array | np.ndarray, "B E"],
    prototypes: Float[Array | np.ndarray, "C K E"],
    speaker: Int[Array | np.ndarray, " B"],
    *,
    scale: Scalar,
    margin: Scalar,
    penalty: Scalar,
    top_k: int,
    form: FormName = "am",
) -> Float[Array, " B"]:
    """:func:`inter_topk_softmax` of embeddings and the sub-centre prototypes of every speaker.

    It holds all cosines ``[B,C]`` at once. For more speakers than that allows, ``build_loss`` computes the same loss
    with classes in chunks or over a mesh.

    Args:
      embeddings: ``[B,E]``, of any length.
      prototypes: ``[C,K,E]``, K sub-centres per speaker, of any length; the weights that training learns.
      speaker: ``[B]``, integers, the own speaker of each example, 0 to C - 1.
      scale: s.
      margin: m.
      penalty: m'.
      top_k: how many other speakers are penalised.
      form: ``"am"`` or ``"aam"``.

    Returns:
      ``[B]``, the loss of each example, not averaged. The gradient of a class goes to its nearest sub-centre only.

    Raises:
      UserError: as :func:`inter_topk_softmax`.

    Examples:
      >>> import jax, numpy as np
      >>> from mqmha_jax.losses import inter_topk_softmax_with_prototypes
      >>> rng = np.random.default_rng(0)
      >>> embeddings = rng.normal(size=(4, 16)).astype(np.float32)
      >>> prototypes = rng.normal(size=(10, 3, 16)).astype(np.float32)  # 10 speakers, 3 sub-centres
      >>> speaker = np.array([0, 1, 2, 9])
      >>> def mean_loss(prototypes):
      ...     return inter_topk_softmax_with_prototypes(
      ...         embeddings, prototypes, speaker, scale=32.0, margin=0.2, penalty=0.06, top_k=5, form="aam"
      ...     ).mean()
      >>> jax.jit(jax.grad(mean_loss))(prototypes).shape
      (10, 3, 16)

    References:
      Zhao et al., `Multi-query multi-head attention pooling and Inter-topK penalty for speaker verification
      <https://arxiv.org/abs/2110.05042>`_, 2022; Deng et al., `Sub-center ArcFace
      <https://doi.org/10.1007/978-3-030-58621-8_43>`_, 2020
    """
    embeddings, speaker = check_examples("embeddings [B,E]", 2, embeddings, speaker)
    prototypes = as_float("prototypes [C,K,E]", 3, prototypes)
    if embeddings.shape[1] != prototypes.shape[2]:
        raise UserError(
            f"embeddings [B,E] have E = {embeddings.shape[1]}, but prototypes [C,K,E] have E = {prototypes.shape[2]}. "
            "Both need the same E."
        )
    cosines = nearest_cosines(embeddings, prototypes)
    return inter_topk_softmax(cosines, speaker, scale=scale, margin=margin, penalty=penalty, top_k=top_k, form=form)
