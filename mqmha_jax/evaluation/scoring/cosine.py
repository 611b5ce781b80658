"""Cosine scores of trials, plain or normalised, for listed pairs or for every pair."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

from mqmha_jax.data.lists import trial_positions
from mqmha_jax.evaluation.scoring.normalization import CohortStatistics, cohort_statistics, normalize_scores
from mqmha_jax.evaluation.scoring.units import check_embeddings, scale_to_units
from mqmha_jax.types import Embeddings, Trials

TRIALS_PER_TILE = 1 << 12  # a tile's gathered rows (8 MiB at E=256) stay in a CPU's cache; larger tiles were slower
MATRIX_SCORES_PER_TILE = 1 << 23  # 32 MiB of float32

# On a CPU, a product inside a matrix product costs a fortieth of a product of gathered rows. So a list with a fair
# share of all pairs is read from the whole matrix, unless that is too large (256 MiB of float32).
_MATRIX_SCORES_PER_TRIAL, _MAX_MATRIX_SCORES = 30, 1 << 26


def cosine_scores(
    embeddings: Embeddings,
    trials: Trials,
    *,
    models: Embeddings | None = None,
) -> Float32[np.ndarray, " M"]:
    """Cosine between the embeddings of each trial, in bounded memory.

    Args:
      embeddings: N utterances, vectors ``[N, E]`` of any length; ``centre`` subtracts a mean.
      trials: M trials over their ids.
      models: embeddings of what the enrolment sides name, e.g. from ``enrol_models``; None: these name utterances too.

    Returns:
      ``[M]`` scores in [-1, 1].

    Raises:
      UserError: a trial names an utterance without embedding, an id comes twice, or an embedding has no direction (see
        ``check_embeddings``).
    """
    embeddings, models = check_embeddings(embeddings), models and check_embeddings(models)
    enrol, test = trial_positions(trials, embeddings.ids, models=models and models.ids)
    return _pair_cosines(embeddings, models, enrol, test)


def as_norm(
    embeddings: Embeddings,
    trials: Trials,
    cohort: Float[np.ndarray, "n E"],
    *,
    top_n: int,
    models: Embeddings | None = None,
) -> Float32[np.ndarray, " M"]:
    """Cosine scores after adaptive s-norm (Matějka et al., 2017): the mean of the two sides' z-scores.

    An utterance's z-score uses the mean and the (population) standard deviation of its ``top_n`` highest cosines to the
    cohort. They are computed once per utterance, in tiles: neither trials x cohort nor utterances x cohort is ever in
    memory.

    Args:
      embeddings: N utterances, vectors ``[N, E]`` of any length; ``centre`` subtracts a mean.
      trials: M trials over their ids.
      cohort: ``[n, E]`` embeddings of speakers that are in no trial, e.g. one mean per training speaker, with the same
        mean subtracted.
      top_n: number of nearest cohort members that count, 2 to n (usually 300 to 400).
      models: as in ``cosine_scores``.

    Returns:
      ``[M]`` normalised scores.

    Raises:
      UserError: as ``cosine_scores`` and ``cohort_statistics``.
    """
    embeddings, models = check_embeddings(embeddings), models and check_embeddings(models)
    enrol, test = trial_positions(trials, embeddings.ids, models=models and models.ids)
    of_tests = cohort_statistics(embeddings, cohort, top_n=top_n)
    of_models = of_tests if models is None else cohort_statistics(models, cohort, top_n=top_n)
    scores = _pair_cosines(embeddings, models, enrol, test)
    return normalize_scores(scores, enrol=of_models.of(enrol), test=of_tests.of(test))


def score_tiles(
    enrol: Float[np.ndarray, "R E"],
    test: Float[np.ndarray, "C E"],
    *,
    enrol_statistics: CohortStatistics | None = None,
    test_statistics: CohortStatistics | None = None,
) -> Iterator[tuple[slice, Float32[np.ndarray, "_ C"]]]:
    """Scores of every enrolment with every test utterance, some rows at a time, for matrices larger than the memory.

    Args:
      enrol: ``[R, E]`` embeddings of any length.
      test: ``[C, E]``.
      enrol_statistics: ``[R]``, from ``cohort_statistics``; they normalise the scores, see ``normalize_scores``.
      test_statistics: ``[C]``.

    Yields:
      A slice of rows, and their scores with all columns, about 32 MiB at a time.
    """
    rows, columns = scale_to_units(enrol), scale_to_units(test)
    by_column = test_statistics and CohortStatistics(*(values[None, :] for values in test_statistics))
    step = max(1, MATRIX_SCORES_PER_TILE // max(1, len(test)))
    pending: tuple[slice, Array] | None = None
    for start in range(0, len(enrol), step):
        part = slice(start, min(start + step, len(enrol)))
        by_row = enrol_statistics and CohortStatistics(*(values[part, None] for values in enrol_statistics))
        tile = _matrix(rows[part], columns, by_row, by_column)
        if pending:  # fetched one tile late, so that the device computes while the host uses the previous tile
            yield pending[0], np.asarray(pending[1])
        pending = part, tile
    if pending:
        yield pending[0], np.asarray(pending[1])


def score_matrix(
    enrol: Float[np.ndarray, "R E"],
    test: Float[np.ndarray, "C E"],
    *,
    enrol_statistics: CohortStatistics | None = None,
    test_statistics: CohortStatistics | None = None,
) -> Float32[np.ndarray, "R C"]:
    """The tiles of ``score_tiles`` as one matrix ``[R, C]``; same arguments."""
    scores = np.empty((len(enrol), len(test)), np.float32)
    for rows, tile in score_tiles(enrol, test, enrol_statistics=enrol_statistics, test_statistics=test_statistics):
        scores[rows] = tile
    return scores


def pair_products(
    enrol_vectors: Float32[Array, "R E"],
    test_vectors: Float32[Array, "C E"],
    enrol: Int32[np.ndarray, " M"],
    test: Int32[np.ndarray, " M"],
) -> Float32[np.ndarray, " M"]:
    """Inner products of listed pairs of rows.

    Args:
      enrol_vectors: ``[R, E]``.
      test_vectors: ``[C, E]``.
      enrol: ``[M]`` rows of ``enrol_vectors``.
      test: ``[M]`` rows of ``test_vectors``.

    Returns:
      ``[M]`` products; the last digit (1e-7 for unit vectors) depends on the share of all pairs that the list has.
    """
    matrix_scores = len(enrol_vectors) * len(test_vectors)
    small = matrix_scores <= min(_MATRIX_SCORES_PER_TRIAL * len(enrol), _MAX_MATRIX_SCORES)
    products = _products_off_matrix if small else _products_of_gathered
    return np.asarray(products(enrol_vectors, test_vectors, enrol, test))


@jax.jit
def _matrix(
    enrol: Float32[Array, "r E"],
    test: Float32[Array, "C E"],
    enrol_statistics: CohortStatistics | None,
    test_statistics: CohortStatistics | None,
) -> Float32[Array, "r C"]:
    cosines = jnp.dot(enrol, test.T, precision=jax.lax.Precision.HIGHEST)
    return normalize_scores(cosines, enrol=enrol_statistics, test=test_statistics)


@jax.jit
def _products_off_matrix(
    enrol_vectors: Float32[Array, "R E"],
    test_vectors: Float32[Array, "C E"],
    enrol: Int32[Array, " M"],
    test: Int32[Array, " M"],
) -> Float32[Array, " M"]:
    return _matrix(enrol_vectors, test_vectors, None, None).at[enrol, test].get(mode="promise_in_bounds")


@jax.jit
def _products_of_gathered(
    enrol_vectors: Float32[Array, "R E"],
    test_vectors: Float32[Array, "C E"],
    enrol: Int32[Array, " M"],
    test: Int32[Array, " M"],
) -> Float32[Array, " M"]:
    """Products of gathered rows; multiply and sum rather than a dot, which is not float32 by default on TPU and GPU."""

    def product(pair: tuple[Array, Array]) -> Array:
        one = enrol_vectors.at[pair[0]].get(mode="promise_in_bounds")
        other = test_vectors.at[pair[1]].get(mode="promise_in_bounds")
        return jnp.sum(one * other)

    return jax.lax.map(product, (enrol, test), batch_size=TRIALS_PER_TILE)


def _pair_cosines(
    embeddings: Embeddings,
    models: Embeddings | None,
    enrol: Int32[np.ndarray, " M"],
    test: Int32[np.ndarray, " M"],
) -> Float32[np.ndarray, " M"]:
    test_units = scale_to_units(embeddings.vectors)
    enrol_units = test_units if models is None else scale_to_units(models.vectors)
    return pair_products(enrol_units, test_units, enrol, test)
