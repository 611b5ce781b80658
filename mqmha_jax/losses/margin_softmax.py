"""Margin softmax with the inter-topK penalty, the second half of the paper (arXiv 2110.05042)."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jaxtyping import Float, Int, Int32

from mqmha_jax.config import LossConfig
from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.losses.class_layout import ClassLayout
from mqmha_jax.losses.class_reducer import ClassReducer
from mqmha_jax.losses.inter_topk import check_top_k
from mqmha_jax.losses.margin import MARGINS, MarginPair
from mqmha_jax.models.head import init_prototypes
from mqmha_jax.parallel import PROTOTYPES

Scalar = Float[Array, ""] | float
Metrics = dict[str, Float[Array, " B"]]


class LossInputs(NamedTuple):
    """What a loss is computed from: embeddings of any length, and whose they are."""

    embedding: Float[Array, "B E"]
    speaker: Int32[Array, " B"]


@runtime_checkable
class ApplyLoss(Protocol):
    """``(params, state, inputs, *, margin, penalty) -> (loss [B], metrics {name: [B]}, new state)``."""

    def __call__(
        self, params: Any, state: Any, inputs: LossInputs, *, margin: Scalar, penalty: Scalar
    ) -> tuple[Float[Array, " B"], Metrics, Any]: ...


class Loss(NamedTuple):
    """A loss in Optax's manner: pure functions over parameters and state.

    Attributes:
      init: random key -> parameters, here ``{"prototypes": f32[rows,K,E]}`` with the padding of ``ClassLayout``.
      initial_state: what the loss carries from step to step; empty for losses that carry nothing.
      apply: see :class:`ApplyLoss`. Nothing is averaged; margin and penalty may be traced.
    """

    init: Callable[[Array], Any]
    initial_state: Any
    apply: ApplyLoss


def margin_softmax(
    classes: ClassReducer,
    *,
    margin_pair: MarginPair,
    scale: float,
    margin: Scalar,
    top_k: int,
    penalty: Scalar,
) -> tuple[Float[Array, " B"], Metrics]:
    """Cross-entropy over scaled cosines, after the margin and the inter-topK penalty.

    With ``P`` the ``top_k`` other speakers nearest to the example, chosen afresh at every step and without gradient::

        loss = -log(exp(s t_y) / (exp(s t_y) + sum_{j != y} exp(s phi_j)))

    where ``t_y`` is the speaker's cosine after the margin and ``phi_j`` another speaker's, penalised if j is in P.

    Args:
      classes: the cosines of a batch, in any layout.
      margin_pair: what margin and penalty do to a cosine.
      scale: s.
      margin: m.
      top_k: how many others are penalised, below the number of speakers; 0: none.
      penalty: m'.

    Returns:
      The loss per example, and per example: ``accuracy`` (1 where the speaker's plain cosine is the largest),
      ``target_cosine``, ``top_negative_cosine``, the mean over the ``top_k`` (at least 1) nearest others, and
      ``mean_negative_cosine``, the mean over all others.
    """
    target_cosine = classes.target_cosine()
    nearest = classes.top_negatives(max(top_k, 1))

    def logits(cosine: Float[Array, "B c"], speaker: Int[Array, " c"]) -> Float[Array, "B c"]:
        negative = margin_pair.negative(cosine, target_cosine[:, None])
        if top_k:
            penalised = margin_pair.penalise(cosine, penalty)
            negative = jnp.where(nearest.contain(cosine, speaker), penalised, negative)
        return scale * negative

    # -log(e^z / (e^z + e^n)) = softplus(n - z), which keeps its digits when the loss is small.
    loss = jax.nn.softplus(classes.log_sum_exp(logits) - scale * margin_pair.target(target_cosine, margin))
    metrics = {
        "accuracy": (target_cosine > nearest.cosine[:, 0]).astype(loss.dtype),
        "target_cosine": target_cosine,
        "top_negative_cosine": nearest.cosine.mean(axis=1),
        "mean_negative_cosine": nearest.sum_of_all / (classes.num_classes - 1),
    }
    return loss, metrics


def build_loss(
    config: LossConfig, *, num_speakers: int, embedding_dim: int, mesh: Mesh | None = None, class_chunk: int = 0
) -> Loss:
    """Builds the loss that a configuration describes.

    Args:
      config: margin, scale, sub-centres and penalty.
      num_speakers: C, the number of classes.
      embedding_dim: E.
      mesh: of ``device_mesh``, whose axis ``model`` cuts the classes; None: one device.
      class_chunk: hold the cosines of at most so many classes at once; 0: of all of a device's.

    Returns:
      The loss; ``config.margin`` and ``config.penalty`` are final values of schedules, so ``apply`` takes the present
      ones as arguments.

    Raises:
      UserError: an unknown loss, a ``top_k`` that is not below the number of speakers, or no sub-centre.
    """
    if config.name not in MARGINS:
        raise unknown_name("loss", config.name, MARGINS)
    check_top_k(config.top_k, num_speakers)
    if config.sub_centres < 1:
        raise UserError(f"loss.sub_centres must be at least 1 prototype per speaker, but it is {config.sub_centres}.")
    layout = ClassLayout(num_speakers, mesh, class_chunk)

    def init(key: Array) -> dict[str, Float[Array, "rows K E"]]:
        prototypes = init_prototypes(key, layout.num_rows, config.sub_centres, embedding_dim)
        is_speaker = jnp.arange(layout.num_rows) < num_speakers
        return {PROTOTYPES: jnp.where(is_speaker[:, None, None], prototypes, 0)}

    def example_loss(classes: ClassReducer, margin: Scalar, penalty: Scalar) -> tuple[Float[Array, " B"], Metrics]:
        return margin_softmax(
            classes,
            margin_pair=MARGINS[config.name],
            scale=config.scale,
            margin=margin,
            top_k=config.top_k,
            penalty=penalty,
        )

    def apply(
        params: dict[str, Float[Array, "rows K E"]], state: Any, inputs: LossInputs, *, margin: Scalar, penalty: Scalar
    ) -> tuple[Float[Array, " B"], Metrics, Any]:
        loss, metrics = layout.reduce(
            example_loss,
            params[PROTOTYPES],
            inputs.embedding,
            inputs.speaker,
            jnp.asarray(margin),
            jnp.asarray(penalty),
        )
        return loss, metrics, state

    return Loss(init=init, initial_state={}, apply=apply)
