"""Scores of trials: cosine of embeddings, and adaptive symmetric score normalisation against a cohort."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

from mqmha_jax.data.lists import trial_positions
from mqmha_jax.errors import UserError
from mqmha_jax.models.head import unit_length
from mqmha_jax.types import Embeddings, Trials

TRIALS_PER_TILE = 1 << 12  # what a tile gathers (8 MiB at E=256) stays in a CPU's cache; larger was slower
COHORT_SCORES_PER_TILE = 1 << 23  # 32 MiB of float32

# Cosines of float32 embeddings are exact to about 1e-7: a deviation below this is rounding, not spread.
MIN_COHORT_DEVIATION = 1e-6


def cosine_scores(
    embeddings: Embeddings, trials: Trials, *, mean: Float[np.ndarray, " E"] | None = None
) -> Float32[np.ndarray, " M"]:
    """Cosine between the embeddings of each trial, in tiles of bounded memory.

    Args:
      embeddings: N utterances, vectors ``[N, E]`` of any length.
      trials: M trials over their ids.
      mean: ``[E]``, subtracted from every embedding first (usually the mean of the training set).

    Returns:
      ``[M]`` scores in [-1, 1].

    Raises:
      UserError: a trial names an utterance without embedding, an id comes twice, or an embedding is not finite.
    """
    enrol, test = _positions(embeddings, trials)
    return np.asarray(_pair_cosines(_centred_units(embeddings.vectors, mean), enrol, test))


def as_norm(
    embeddings: Embeddings,
    trials: Trials,
    cohort: Float[np.ndarray, "n E"],
    *,
    top_n: int,
    mean: Float[np.ndarray, " E"] | None = None,
) -> Float32[np.ndarray, " M"]:
    """Cosine scores after adaptive s-norm (Matějka et al., 2017): the mean of the two sides' z-scores.

    Each utterance has the mean and the (population) standard deviation of its ``top_n`` highest cosines to the cohort.
    They are taken once per utterance, in tiles: neither trials x cohort nor utterances x cohort lies in memory.

    Args:
      embeddings: N utterances, vectors ``[N, E]`` of any length.
      trials: M trials over their ids.
      cohort: ``[n, E]`` embeddings of speakers that are in no trial, e.g. one mean per training speaker.
      top_n: how many of the nearest cohort members count, 2 to n (usually 300 to 400).
      mean: ``[E]``, subtracted from every embedding and from the cohort first.

    Returns:
      ``[M]`` normalised scores.

    Raises:
      UserError: as ``cosine_scores``; ``top_n`` outside 2 to n; an utterance whose cohort scores do not differ.
    """
    if not 2 <= top_n <= len(cohort):
        raise UserError(
            f"top_n is {top_n} with a cohort of {len(cohort)}; valid: 2 to the size of the cohort. "
            "Lower top_n or give a larger cohort."
        )
    enrol, test = _positions(embeddings, trials)
    units = _centred_units(embeddings.vectors, mean)
    centre, deviation = map(np.asarray, _cohort_statistics(units, _centred_units(cohort, mean), top_n))
    alike = np.flatnonzero(deviation < MIN_COHORT_DEVIATION)
    if alike.size:
        raise UserError(
            f"The {top_n} highest cohort scores of utterance {embeddings.ids[alike[0]]!r} are all alike "
            f"({alike.size} such utterances); the cohort needs embeddings of different speakers."
        )
    scores = np.asarray(_pair_cosines(units, enrol, test))
    return ((scores - centre[enrol]) / deviation[enrol] + (scores - centre[test]) / deviation[test]) / 2


@jax.jit
def _pair_cosines(
    units: Float[Array, "N E"], enrol: Int32[Array, " M"], test: Int32[Array, " M"]
) -> Float[Array, " M"]:
    """Products of gathered rows; multiply and sum rather than a dot, which is not float32 by default on TPU and GPU."""

    def cosine(pair: tuple[Array, Array]) -> Array:
        one, other = (units.at[i].get(mode="promise_in_bounds") for i in pair)
        return jnp.sum(one * other)

    return jax.lax.map(cosine, (enrol, test), batch_size=TRIALS_PER_TILE)


@jax.jit(static_argnames="top_n")
def _cohort_statistics(
    units: Float[Array, "N E"], cohort: Float[Array, "n E"], top_n: int
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Mean and population standard deviation of the top_n cohort cosines of each utterance."""

    def statistics(unit: Float[Array, " E"]) -> tuple[Array, Array]:
        cosines = jnp.dot(cohort, unit, precision=jax.lax.Precision.HIGHEST)
        nearest = jax.lax.top_k(cosines, top_n)[0]
        return jnp.mean(nearest), jnp.std(nearest)

    return jax.lax.map(statistics, units, batch_size=max(1, COHORT_SCORES_PER_TILE // len(cohort)))


def _centred_units(vectors: Float[np.ndarray, "N E"], mean: Float[np.ndarray, " E"] | None) -> Float[Array, "N E"]:
    return unit_length(jnp.asarray(vectors if mean is None else vectors - mean[None], jnp.float32))


def _positions(embeddings: Embeddings, trials: Trials) -> tuple[Int32[np.ndarray, " M"], Int32[np.ndarray, " M"]]:
    """Rows of each trial's two utterances, after the checks that make a score meaningful."""
    ids, vectors = embeddings
    if len(set(ids)) != len(ids):
        twice = next(utterance for utterance, count in Counter(ids).items() if count > 1)
        raise UserError(f"Utterance {twice!r} has more than one embedding; valid: one embedding per utterance id.")
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if broken.size:
        raise UserError(
            f"The embedding of utterance {ids[broken[0]]!r} is not finite ({broken.size} of {len(ids)} are not); "
            "check its audio and that the training of the network did not diverge."
        )
    return trial_positions(trials, ids)
