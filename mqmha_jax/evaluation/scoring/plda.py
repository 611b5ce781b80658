"""Probabilistic linear discriminant analysis: the two-covariance model, fitted by EM, scored by likelihood ratios.

An embedding is ``mean + y + e``: y ~ N(0, between) belongs to the speaker, e ~ N(0, within) to the utterance (Ioffe,
2006; Brümmer and de Villiers, 2010). Embeddings are usually length-normalised first. Computations use the basis where
``within`` is the identity and ``between`` is diagonal, so that every posterior is diagonal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts load when they are first used
from jaxtyping import Float, Float64, Int, Shaped

from mqmha_jax.data.lists import trial_positions
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.speakers import sum_per_speaker
from mqmha_jax.evaluation.scoring.enrolment import model_means
from mqmha_jax.evaluation.scoring.linear_backend import check_vectors, speaker_index
from mqmha_jax.types import Embeddings, Trials

_TRIALS_PER_TILE = 1 << 14


@dataclass(frozen=True)
class Plda:
    """The model, in the coordinates of the embeddings.

    Attributes:
      mean: ``[E]``.
      between: ``[E, E]`` covariance of speakers.
      within: ``[E, E]`` covariance of the utterances of a speaker, of full rank.
    """

    mean: Float64[np.ndarray, " E"]
    between: Float64[np.ndarray, "E E"]
    within: Float64[np.ndarray, "E E"]

    def basis(self) -> tuple[Float64[np.ndarray, " E"], Float64[np.ndarray, "E E"]]:
        """Variances of speakers in the basis where both covariances are diagonal, and the matrix ``[E, E]`` into it."""
        # In this basis speaker and utterance are independent in every direction, so all that follows costs E instead of
        # E^2.
        variances, axes = scipy.linalg.eigh(self.between, self.within)
        return np.maximum(variances, 0), axes

    def score_matrix(
        self,
        enrol: Float[np.ndarray, "R E"],
        test: Float[np.ndarray, "C E"],
        num_enrol: Int[np.ndarray, " R"] | None = None,
    ) -> Float64[np.ndarray, "R C"]:
        """Log-likelihood ratio of "the same speaker" of every model with every test embedding.

        Args:
          enrol: ``[R, E]`` mean embedding of the utterances of each model.
          test: ``[C, E]`` embeddings.
          num_enrol: ``[R]`` utterances of each model; None: one.
        """
        speaker, axes = self.basis()
        expected, variance = _posterior((enrol - self.mean[None]) @ axes, speaker, _counts(num_enrol, len(enrol)))
        x = (test - self.mean[None]) @ axes
        # sum_k (x - expected)^2 / variance, expanded into matrix products.
        same = x**2 @ (1 / variance).T - 2 * x @ (expected / variance).T + (expected**2 / variance).sum(axis=1)[None]
        alone = (x**2 / (speaker + 1)[None]).sum(axis=1)
        volume = np.log(variance).sum(axis=1)[None] - np.log(speaker + 1).sum()
        return ((alone[:, None] - same - volume) / 2).T

    def score_pairs(
        self,
        enrol: Float[np.ndarray, "R E"],
        test: Float[np.ndarray, "C E"],
        rows: Int[np.ndarray, " M"],
        columns: Int[np.ndarray, " M"],
        num_enrol: Int[np.ndarray, " R"] | None = None,
    ) -> Float64[np.ndarray, " M"]:
        """The entries ``[rows, columns]`` of ``score_matrix``, in tiles of bounded memory."""
        speaker, axes = self.basis()
        expected, variance = _posterior((enrol - self.mean[None]) @ axes, speaker, _counts(num_enrol, len(enrol)))
        x = (test - self.mean[None]) @ axes
        alone = (x**2 / (speaker + 1)[None] + np.log(speaker + 1)[None]).sum(axis=1)
        volume = np.log(variance).sum(axis=1)
        scores = np.empty(len(rows))
        for start in range(0, len(rows), _TRIALS_PER_TILE):
            tile = slice(start, start + _TRIALS_PER_TILE)
            one, other = rows[tile], columns[tile]
            same = ((x[other] - expected[one]) ** 2 / variance[one]).sum(axis=1) + volume[one]
            scores[tile] = (alone[other] - same) / 2
        return scores


def fit_plda(
    vectors: Float[np.ndarray, "N E"],
    speaker: Shaped[np.ndarray, " _"],
    *,
    max_iterations: int = 200,
    tolerance: float = 1e-7,
) -> Plda:
    """Fits the model by expectation maximisation, from the covariances of speaker means and of what is left.

    Args:
      vectors: ``[N, E]`` training embeddings.
      speaker: ``[N]`` speaker of each, as numbers or names.
      max_iterations: maximum number of EM steps.
      tolerance: stop when a step raises the mean log-likelihood of an embedding by less than this, in nats.

    Returns:
      The model of (locally) greatest likelihood.

    Raises:
      UserError: an embedding is not finite, there is only one speaker, or there are too few embeddings for a covariance
        within speakers, or they vary too little, e.g. because each speaker has one recording several times.
    """
    vectors = check_vectors(vectors, at_least=2)
    index = speaker_index(speaker, len(vectors))
    counts = np.bincount(index)
    size = vectors.shape[1]
    if len(vectors) - len(counts) < size:
        raise UserError(
            f"{len(vectors)} embeddings of {len(counts)} speakers do not determine a covariance within speakers of "
            f"size {size}; valid: at least {len(counts) + size} embeddings. Lower the size first, e.g. by LDA."
        )
    means = sum_per_speaker(vectors, index) / counts[:, None]
    residual = vectors - means[index]
    # All that EM needs of the embeddings themselves: a step then costs the speakers' means and not the utterances.
    scatter = residual.T @ residual
    # If each speaker repeats one recording, only rounding varies within speakers. So the total variance is the measure.
    if np.linalg.eigvalsh(scatter)[0] <= 1e-10 * len(vectors) * vectors.var(axis=0).mean():
        raise UserError(
            "The embeddings of each speaker do not vary in all directions; lower their size, e.g. by LDA, and give "
            "different recordings of each speaker: repeated ones do not vary."
        )
    model = Plda(vectors.mean(axis=0), np.cov(means.T).reshape(size, size), scatter / (len(vectors) - len(counts)))
    likelihood = -np.inf
    for _ in range(max_iterations):
        previous, (likelihood, model) = likelihood, _em_step(model, means, counts, scatter)
        if likelihood - previous < tolerance:
            break
    return model


def plda_scores(
    model: Plda,
    embeddings: Embeddings,
    trials: Trials,
    models: Mapping[str, Sequence[str]] | None = None,
) -> Float64[np.ndarray, " M"]:
    """Log-likelihood ratios of a trial list.

    Args:
      model: fitted on embeddings from the same network and maps.
      embeddings: N utterances, vectors ``[N, E]``.
      trials: M trials.
      models: utterances of each model that the enrolment sides name, see ``read_models``; None: they name utterances.

    Returns:
      ``[M]`` natural-log likelihood ratios.

    Raises:
      UserError: a trial names an utterance or a model that is not known.
    """
    if models is None:
        models = {name: (name,) for name in dict.fromkeys(trials.enrol)}
    rows, columns = trial_positions(trials, embeddings.ids, models=tuple(models))
    means, counts = model_means(embeddings.vectors.astype(np.float64), embeddings.ids, models)
    return model.score_pairs(means, embeddings.vectors, rows, columns, counts)


def _em_step(
    model: Plda, means: Float64[np.ndarray, "C E"], counts: Int[np.ndarray, " C"], scatter: Float64[np.ndarray, "E E"]
) -> tuple[float, Plda]:
    """Mean log-likelihood of an embedding under the model, and a model under which it is at least as high.

    Args:
      model: before the step.
      means: mean embedding of each speaker.
      counts: embeddings of each speaker.
      scatter: sum over all embeddings of the outer product of their offset from the mean of their speaker.
    """
    speaker, axes = model.basis()
    total, size = counts.sum(), len(speaker)
    offsets = (means - model.mean[None]) @ axes
    expected, spread = _posterior(offsets, speaker, counts)
    spread = spread - 1  # of the speaker alone, without the utterance's 1
    left = offsets - expected
    # log N of the speaker's mean, whose variance is speaker + 1 / count, and of the offsets from it.
    variance = speaker[None] + 1 / counts[:, None]
    likelihood = -0.5 * (
        (offsets**2 / variance + np.log(variance * counts[:, None])).sum()
        + np.trace(axes.T @ scatter @ axes)
        + total * (size * np.log(2 * np.pi) - 2 * np.linalg.slogdet(axes)[1])
    )
    shift = counts @ left / total
    left -= shift[None]
    inverse = np.linalg.inv(axes)
    between = (expected.T @ expected + np.diag(spread.sum(axis=0))) / len(counts)
    within = (left * counts[:, None]).T @ left / total + np.diag(counts @ spread) / total
    return float(likelihood / total), Plda(
        mean=model.mean + shift @ inverse,
        between=inverse.T @ between @ inverse,
        within=scatter / total + inverse.T @ within @ inverse,
    )


def _posterior(
    offsets: Float64[np.ndarray, "R E"], speaker: Float64[np.ndarray, " E"], counts: Int[np.ndarray, " R"]
) -> tuple[Float64[np.ndarray, "R E"], Float64[np.ndarray, "R E"]]:
    """Mean and variance of a further embedding of each speaker, in the diagonal basis.

    Args:
      offsets: mean embedding of each speaker.
      speaker: variances between speakers.
      counts: number of embeddings in that mean.
    """
    shrink = speaker[None] / (1 + counts[:, None] * speaker[None])
    return shrink * counts[:, None] * offsets, 1 + shrink


def _counts(num_enrol: Int[np.ndarray, " R"] | None, num_models: int) -> Int[np.ndarray, " R"]:
    return np.ones(num_models, np.int64) if num_enrol is None else num_enrol
