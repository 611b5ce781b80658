"""Linear back-ends: centring, whitening and LDA, each an affine map fitted on training embeddings."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # its parts load when they are first used
from jaxtyping import Float, Float64, Int, Shaped

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.speakers import sum_per_speaker
from mqmha_jax.evaluation.numbers import require_finite
from mqmha_jax.field_checks import check_value

_LARGEST = 1e15  # of a value in an embedding


@dataclass(frozen=True)
class AffineMap:
    """``(x - mean) @ matrix``.

    Attributes:
      mean: ``[E]``.
      matrix: ``[E, P]``.
    """

    mean: Float64[np.ndarray, " E"]
    matrix: Float64[np.ndarray, "E P"]

    def __call__(self, vectors: Float[np.ndarray, "N E"]) -> Float64[np.ndarray, "N P"]:
        """Maps N embeddings.

        Raises:
          UserError: they have another size than those of the fit.
        """
        if vectors.shape[1] != len(self.mean):
            raise UserError(
                f"The back-end was fitted on embeddings of size {len(self.mean)}, these have {vectors.shape[1]}; "
                "fit it again with the network that made them."
            )
        return (vectors - self.mean[None]) @ self.matrix


def fit_mean(vectors: Float[np.ndarray, "N E"]) -> AffineMap:
    """Subtracts the mean.

    Args:
      vectors: ``[N, E]`` training embeddings.

    Raises:
      UserError: no embeddings, or one is not finite.
    """
    vectors = check_vectors(vectors, at_least=1)
    return AffineMap(vectors.mean(axis=0), np.eye(vectors.shape[1]))


def fit_whitening(
    vectors: Float[np.ndarray, "N E"], kind: Literal["zca", "pca"] = "zca", *, shrinkage: float = 0.0
) -> AffineMap:
    """Centres the embeddings and gives every direction variance 1.

    Args:
      vectors: ``[N, E]`` training embeddings.
      kind: "zca" changes the embeddings as little as possible (a symmetric matrix); "pca" rotates them to the principal
        axes, largest variance first.
      shrinkage: 0 to 1, moves the covariance towards the multiple of the identity with the same trace; needed unless N
        is much larger than E.

    Returns:
      ``[E] -> [E]``.

    Raises:
      UserError: fewer than two embeddings, one is not finite, a shrinkage outside [0, 1], or a covariance without full
        rank.
    """
    vectors = check_vectors(vectors, at_least=2)
    centred = vectors - vectors.mean(axis=0)[None]
    variances, axes = np.linalg.eigh(_shrunk(centred.T @ centred / len(vectors), shrinkage))
    _check_rank(variances, "total", vectors)
    scaled = axes / np.sqrt(variances)[None]
    return AffineMap(vectors.mean(axis=0), scaled @ axes.T if kind == "zca" else scaled[:, ::-1])


def fit_lda(
    vectors: Float[np.ndarray, "N E"], speaker: Shaped[np.ndarray, " _"], size: int, *, shrinkage: float = 0.0
) -> AffineMap:
    """Linear discriminant analysis: the directions in which speakers differ most, scaled to variance 1 within speakers.

    With ``size`` E it is within-class covariance normalisation, up to a rotation.

    Args:
      vectors: ``[N, E]`` training embeddings.
      speaker: ``[N]`` speaker of each, as numbers or names.
      size: of the result, P: 1 to E, and below the number of speakers.
      shrinkage: of the covariance within speakers, as in ``fit_whitening``.

    Returns:
      ``[E] -> [P]``, most discriminative direction first.

    Raises:
      UserError: as ``fit_whitening``; a size that the data do not allow.
    """
    check_value("size", size, int)
    vectors = check_vectors(vectors, at_least=2)
    index = speaker_index(speaker, len(vectors))
    counts = np.bincount(index)
    largest = min(vectors.shape[1], len(counts) - 1)
    if not 1 <= size <= largest:
        raise UserError(
            f"LDA to size {size} with embeddings of size {vectors.shape[1]} and {len(counts)} speakers; "
            f"valid: 1 to {largest}."
        )
    mean = vectors.mean(axis=0)
    speaker_means = sum_per_speaker(vectors, index) / counts[:, None]
    residual = vectors - speaker_means[index]
    offsets = speaker_means - mean[None]
    within = _shrunk(residual.T @ residual / len(vectors), shrinkage)
    _check_rank(np.linalg.eigvalsh(within), "within-speaker", vectors)
    between = (offsets * counts[:, None]).T @ offsets / len(vectors)
    axes = scipy.linalg.eigh(between, within)[1]  # ascending, of variance 1 within speakers
    return AffineMap(mean, axes[:, ::-1][:, :size].copy())


def speaker_index(speaker: Shaped[np.ndarray, " _"], num_vectors: int) -> Int[np.ndarray, " N"]:
    """Speakers as numbers from 0, without gaps.

    Raises:
      UserError: the number of speakers differs from that of the embeddings, or all are the same speaker.
    """
    if speaker.shape != (num_vectors,):
        raise UserError(f"There are {speaker.size} speakers for {num_vectors} embeddings; valid: one for each.")
    names, index = np.unique(speaker, return_inverse=True)
    if len(names) < 2:
        raise UserError("All embeddings are of one speaker; differences between speakers need at least two.")
    return index


def check_vectors(vectors: Float[np.ndarray, "N E"], *, at_least: int) -> Float64[np.ndarray, "N E"]:
    """Embeddings in double precision, or the reason why no back-end can be fitted on them."""
    if len(vectors) < at_least:
        raise UserError(f"There are {len(vectors)} embeddings to fit a back-end on; valid: at least {at_least}.")
    require_finite(vectors)
    if np.abs(vectors).max() > _LARGEST:  # the covariances would overflow
        raise UserError(
            f"An embedding has the value {np.abs(vectors).max():.3g}; valid to fit a back-end on: up to {_LARGEST:g}. "
            "Scale all embeddings."
        )
    return vectors.astype(np.float64)


def _shrunk(covariance: Float64[np.ndarray, "E E"], shrinkage: float) -> Float64[np.ndarray, "E E"]:
    if not 0 <= shrinkage <= 1:
        raise UserError(f"shrinkage is {shrinkage}; valid: 0 (none) to 1.")
    size = len(covariance)
    return (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / size * np.eye(size)


def _check_rank(variances: Float64[np.ndarray, " E"], which: str, vectors: Float64[np.ndarray, "N E"]) -> None:
    """Refuses a covariance whose smallest variance is rounding."""
    # Where all recordings of a speaker are the same, all variances within speakers are rounding, and alike in size:
    # only the variance of the embeddings themselves tells.
    if variances.min() <= 1e-10 * max(variances.max(), vectors.var(axis=0).mean()):
        repeated = " Recordings that are repeated do not count." if which == "within-speaker" else ""
        raise UserError(
            f"The {which} covariance of the embeddings does not have full rank; give more embeddings than their size "
            f"({len(variances)}) or a shrinkage of, say, 0.1.{repeated}"
        )
