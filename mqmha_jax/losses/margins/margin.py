"""What a loss does to a single cosine; elementwise, so that it works in any layout of the classes."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from jax import Array
from jaxtyping import Float

from mqmha_jax.losses.class_reducer import Similarity
from mqmha_jax.losses.cross_entropy import Classification, cross_entropy
from mqmha_jax.losses.inter_topk import penalise_cosine
from mqmha_jax.losses.negative_shifts import Penalise, Scalar
from mqmha_jax.models.head import nearest_cosines

Scalars = Mapping[str, Array]


class Example(NamedTuple):
    """What a margin may look at beside a cosine.

    Attributes:
      norm: length of the embedding, shaped as the cosines or to broadcast against them.
      params: the loss's own learned scalars.
      state: what the loss remembers of earlier steps, without gradient.
    """

    norm: Float[Array, "..."]
    params: Scalars
    state: Scalars


def keep_cosine(
    cosine: Float[Array, "..."], target: Float[Array, "..."], margin: Scalar, example: Example
) -> Float[Array, "..."]:
    """Leaves the other speakers' cosines as they are."""
    return cosine


def multiply_by_scale(value: Float[Array, "..."], scale: Scalar, example: Example) -> Float[Array, "..."]:
    """Returns ``s`` times the cosine."""
    return scale * value


def keep_state(state: Scalars, norm: Float[Array, " B"], target_cosine: Float[Array, " B"]) -> Scalars:
    """Remembers nothing new."""
    return state


class Margin(NamedTuple):
    """How one loss treats the speaker's own cosine and the others'; a new loss usually sets ``target`` alone.

    Attributes:
      target: ``(cosine, margin, example) -> t_y`` for the speaker's own cosine.
      negative: ``(cosine, t_y, margin, example) -> phi_j`` for the other speakers' cosines.
      penalise: ``(phi_j, m') -> phi_j`` for the speakers that the inter-topK penalty moves; see ``inter_topk.py``.
      similarity: what takes the place of the cosine between embeddings ``[B,E]`` and prototypes ``[C,K,E]``.
      classification: how target and negatives become a loss.
      logit: ``(t_y or phi_j, s, example) -> z``.
      init_params: initial values of learned scalars.
      init_state: initial values of remembered scalars.
      update: ``(state, norm [B], target cosine [B]) -> state`` over the whole batch, after the step's loss.
    """

    target: Callable[[Float[Array, "..."], Scalar, Example], Float[Array, "..."]]
    negative: Callable[[Float[Array, "..."], Float[Array, "..."], Scalar, Example], Float[Array, "..."]] = keep_cosine
    penalise: Penalise = penalise_cosine
    similarity: Similarity = nearest_cosines
    classification: Classification = cross_entropy
    logit: Callable[[Float[Array, "..."], Scalar, Example], Float[Array, "..."]] = multiply_by_scale
    init_params: Mapping[str, float] = {}
    init_state: Mapping[str, float] = {}
    update: Callable[[Scalars, Float[Array, " B"], Float[Array, " B"]], Scalars] = keep_state
