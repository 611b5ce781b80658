"""Centring, whitening and LDA do what they are named for, and survive the disk."""

import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.scoring.linear_backend import fit_lda, fit_mean, fit_whitening

RNG = np.random.default_rng(0)
SPEAKER = np.repeat(np.arange(40), 12)
MIXING = RNG.normal(size=(6, 6))
OWN = RNG.normal(size=(40, 6)) * [[3, 2, 1, 0.1, 0.1, 0.1]]
VECTORS = (OWN[SPEAKER] + RNG.normal(size=(480, 6))) @ MIXING + 5


def covariance(vectors):
    return np.cov(vectors.T, bias=True)


def within_covariance(vectors):
    residual = np.concatenate([own - own.mean(axis=0) for own in np.split(vectors, 40)])
    return residual.T @ residual / len(residual)


def test_mean_is_subtracted():
    mapped = fit_mean(VECTORS)(VECTORS)
    np.testing.assert_allclose(mapped, VECTORS - VECTORS.mean(axis=0), atol=1e-12)


def test_whitened_embeddings_have_the_identity_as_covariance():
    zca, pca = fit_whitening(VECTORS), fit_whitening(VECTORS, "pca")
    for fitted in (zca, pca):
        np.testing.assert_allclose(covariance(fitted(VECTORS)), np.eye(6), atol=1e-9)
        np.testing.assert_allclose(fitted(VECTORS).mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(zca.matrix, zca.matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(zca.matrix).min() > 0
    undone = covariance(VECTORS @ (pca.matrix / np.linalg.norm(pca.matrix, axis=0)))
    assert (np.diff(np.diag(undone)) < 0).all()  # largest variance first


def test_shrinkage_whitens_the_mixture_with_the_identity():
    target = 0.7 * covariance(VECTORS) + 0.3 * np.trace(covariance(VECTORS)) / 6 * np.eye(6)
    matrix = fit_whitening(VECTORS, shrinkage=0.3).matrix
    np.testing.assert_allclose(matrix.T @ target @ matrix, np.eye(6), atol=1e-9)
    fit_whitening(VECTORS[:4], shrinkage=0.1)  # fewer embeddings than dimensions


def test_lda_finds_the_directions_in_which_speakers_differ():
    """Unmixed, the first three coordinates tell speakers apart; no direction has a greater ratio than the first."""
    lda = fit_lda(VECTORS.astype(np.float32), np.array([f"s{s}" for s in SPEAKER]), 3)
    mapped = lda(VECTORS)
    np.testing.assert_allclose(within_covariance(mapped), np.eye(3), atol=1e-4)
    np.testing.assert_allclose(covariance(mapped), np.diag(np.diag(covariance(mapped))), atol=1e-3)
    unmixed = np.linalg.qr(MIXING @ lda.matrix)[0]
    assert np.linalg.norm(unmixed[:3]) ** 2 > 2.9  # of 3: the subspace of the first three coordinates

    def ratio(direction):
        return (direction @ covariance(VECTORS) @ direction) / (direction @ within_covariance(VECTORS) @ direction)

    best = ratio(lda.matrix[:, 0])
    assert best == pytest.approx(covariance(mapped)[0, 0], rel=1e-4)
    assert all(ratio(direction) <= best * (1 + 1e-6) for direction in RNG.normal(size=(500, 6)))


def test_data_that_teach_nothing_are_refused():
    broken = VECTORS.copy()
    broken[7, 2] = np.inf
    for message, fit in (
        ("1 of the 480 embeddings are not finite, the first is number 8", lambda: fit_mean(broken)),
        ("There are 0 embeddings to fit", lambda: fit_mean(VECTORS[:0])),
        ("total covariance .* does not have full rank.*shrinkage", lambda: fit_whitening(VECTORS[:4])),
        (r"shrinkage is 2\.0; valid: 0 .none. to 1", lambda: fit_whitening(VECTORS, shrinkage=2.0)),
        (
            "LDA to size 7 with embeddings of size 6 and 40 speakers; valid: 1 to 6",
            lambda: fit_lda(VECTORS, SPEAKER, 7),
        ),
        ("valid: 1 to 1", lambda: fit_lda(VECTORS[:24], SPEAKER[:24], 2)),
        ("within-speaker covariance", lambda: fit_lda(VECTORS[:6], np.arange(6) // 2, 2)),
        ("All embeddings are of one speaker", lambda: fit_lda(VECTORS, SPEAKER * 0, 1)),
        ("There are 3 speakers for 480 embeddings", lambda: fit_lda(VECTORS, SPEAKER[:3], 1)),
        ("fitted on embeddings of size 6, these have 5", lambda: fit_mean(VECTORS)(VECTORS[:, :5])),
    ):
        with pytest.raises(UserError, match=message):
            fit()


@pytest.mark.parametrize("shrinkage", [0.0, 0.1])
def test_repeated_recordings_of_each_speaker_teach_lda_nothing(shrinkage):
    """Their variance is rounding in every direction, which no other variance within speakers shows."""
    repeated = np.repeat(RNG.normal(size=(40, 3)), 5, axis=0)
    with pytest.raises(UserError, match=r"within-speaker covariance .* full rank.* repeated do not count"):
        fit_lda(repeated, np.repeat(np.arange(40), 5), 2, shrinkage=shrinkage)
