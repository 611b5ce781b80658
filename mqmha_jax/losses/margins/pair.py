"""What a loss does to single cosines; elementwise, so that any layout of the classes can use it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from jax import Array
from jaxtyping import Float

from mqmha_jax.losses.class_reducer import Similarity
from mqmha_jax.losses.cross_entropy import Classification, cross_entropy
from mqmha_jax.models.head import nearest_cosines

Scalar = Float[Array, ""] | float
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


def unchanged(
    cosine: Float[Array, "..."], target: Float[Array, "..."], margin: Scalar, example: Example
) -> Float[Array, "..."]:
    """The other speakers' cosines as they are."""
    return cosine


def add_penalty(cosine: Float[Array, "..."], penalty: Scalar) -> Float[Array, "..."]:
    """``cos(theta) + m'``: the inter-topK penalty beside an additive margin (arXiv 2110.05042)."""
    return cosine + penalty


def scaled(value: Float[Array, "..."], scale: Scalar, example: Example) -> Float[Array, "..."]:
    """``s`` times the cosine."""
    return scale * value


def keep_state(state: Scalars, norm: Float[Array, " B"], target_cosine: Float[Array, " B"]) -> Scalars:
    """Remembers nothing new."""
    return state


class MarginPair(NamedTuple):
    """How one loss treats the speaker's own cosine and the others'; a new loss usually needs ``target`` alone.

    Attributes:
      target: ``(cosine, margin, example) -> t_y``, of the speaker's own cosine.
      negative: ``(cosine, t_y, margin, example) -> phi_j``, of the other speakers' cosines.
      penalise: ``(phi_j, penalty) -> phi_j``, of the ``top_k`` nearest others (arXiv 2110.05042).
      similarity: what stands for the cosine of embeddings ``[B,E]`` and prototypes ``[C,K,E]``.
      classification: how target and negatives become a loss.
      logit: ``(t_y or phi_j, s, example) -> z``.
      init_params: learned scalars at the start.
      init_state: remembered scalars at the start.
      update: ``(state, norm [B], target cosine [B]) -> state``, over the whole batch, after the step's loss.
    """

    target: Callable[[Float[Array, "..."], Scalar, Example], Float[Array, "..."]]
    negative: Callable[[Float[Array, "..."], Float[Array, "..."], Scalar, Example], Float[Array, "..."]] = unchanged
    penalise: Callable[[Float[Array, "..."], Scalar], Float[Array, "..."]] = add_penalty
    similarity: Similarity = nearest_cosines
    classification: Classification = cross_entropy
    logit: Callable[[Float[Array, "..."], Scalar, Example], Float[Array, "..."]] = scaled
    init_params: Mapping[str, float] = {}
    init_state: Mapping[str, float] = {}
    update: Callable[[Scalars, Float[Array, " B"], Float[Array, " B"]], Scalars] = keep_state
