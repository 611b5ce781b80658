"""Models enrolled with several utterances: the mean of their embeddings, or the mean of their scores."""

from collections.abc import Mapping, Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int64

from mqmha_jax.data.lists import trial_positions
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.scoring.cosine import cosine_scores, pair_products
from mqmha_jax.evaluation.scoring.units import check_embeddings, scale_to_units
from mqmha_jax.types import Embeddings, Trials


def enrol_models(embeddings: Embeddings, models: Mapping[str, Sequence[str]]) -> Embeddings:
    """One embedding for each model: the mean of the unit-length embeddings of its utterances.

    It serves as ``models`` of ``cosine_scores`` and ``as_norm``.

    Args:
      embeddings: N utterances, vectors ``[N, E]``.
      models: the utterances of each model.

    Returns:
      The models, float32; a model's length is at most 1.

    Raises:
      UserError: a model names an utterance without embedding, or has none.
    """
    means, _ = model_means(np.asarray(scale_to_units(embeddings.vectors)), embeddings.ids, models)
    return Embeddings(tuple(models), means.astype(np.float32))


def enrolment_scores(
    embeddings: Embeddings,
    trials: Trials,
    models: Mapping[str, Sequence[str]],
    *,
    average: Literal["embeddings", "scores"] = "embeddings",
) -> Float32[np.ndarray, " M"]:
    """Cosine scores of trials between models and utterances.

    Args:
      embeddings: N utterances, vectors ``[N, E]``.
      trials: M trials; their enrolment sides name models.
      models: the utterances of each model.
      average: "embeddings": the cosine with the mean of the model's unit-length embeddings; "scores": the mean of the
        cosines with each of them.

    Returns:
      ``[M]`` scores.

    Raises:
      UserError: as ``enrol_models`` and ``cosine_scores``.
    """
    embeddings = check_embeddings(embeddings)
    enrolled = enrol_models(embeddings, models)
    if average == "embeddings":
        return cosine_scores(embeddings, trials, models=enrolled)
    # The mean of inner products with unit vectors is the product with their mean, left at its length.
    rows, columns = trial_positions(trials, embeddings.ids, models=enrolled.ids)
    return pair_products(jnp.asarray(enrolled.vectors), scale_to_units(embeddings.vectors), rows, columns)


def model_means(
    vectors: Float[np.ndarray, "N E"], utterances: Sequence[str], models: Mapping[str, Sequence[str]]
) -> tuple[Float[np.ndarray, "R E"], Int64[np.ndarray, " R"]]:
    """Mean of the vectors of each model, and their number.

    Args:
      vectors: ``[N, E]``.
      utterances: N ids.
      models: the utterances of each model.

    Raises:
      UserError: a model names an utterance that is not among the ids, or has none.
    """
    position = {utterance: i for i, utterance in enumerate(utterances)}
    means = np.empty((len(models), vectors.shape[1]), vectors.dtype)
    for row, (model, own) in enumerate(models.items()):
        missing = [utterance for utterance in own if utterance not in position]
        if missing or not own:
            what = f"utterance {missing[0]!r}, which has no embedding" if missing else "no utterances"
            raise UserError(
                f"Model {model!r} has {what}; valid: one or more of the {len(position)} available utterances."
            )
        means[row] = vectors[[position[utterance] for utterance in own]].mean(axis=0)
    return means, np.array([len(own) for own in models.values()], np.int64)
