"""The map keeps speakers together, samples as documented, and takes odd input."""

from collections import Counter

import numpy as np
import pytest

from mqmha_jax.evaluation.report.html.projection import MAX_POINTS, project_embeddings
from mqmha_jax.types import Embeddings


def clusters(sizes, dimension=16):
    """Utterances of well separated speakers; ``sizes`` gives the number of each speaker."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    centres = rng.normal(size=(len(sizes), dimension))
    vectors = centres[owner] + 0.1 * rng.normal(size=(len(owner), dimension))
    ids = tuple(f"u{i}" for i in range(len(owner)))
    return Embeddings(ids, vectors.astype(np.float32)), {u: f"s{o:02d}" for u, o in zip(ids, owner, strict=True)}


def test_nearest_neighbours_are_of_the_same_speaker():
    embeddings, utt2spk = clusters([8] * 12)
    shown = project_embeddings(embeddings, utt2spk)
    assert sorted(shown.ids) == sorted(embeddings.ids)
    assert shown.speakers == tuple(f"s{i:02d}" for i in range(10))
    assert Counter(shown.speaker) == {**dict.fromkeys(range(10), 8), -1: 16}
    distance = np.linalg.norm(shown.points[:, None] - shown.points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = distance.argmin(axis=1)
    same = [utt2spk[shown.ids[i]] == utt2spk[shown.ids[j]] for i, j in enumerate(nearest)]
    assert np.mean(same) > 0.95
    np.testing.assert_array_equal(shown.points, project_embeddings(embeddings, utt2spk).points)


@pytest.mark.slow  # 1,000 points
def test_samples_of_long_lists_hold_the_named_speakers():
    embeddings, utt2spk = clusters([60] * 3 + [5] * 300)
    shown = project_embeddings(embeddings, utt2spk)
    assert len(set(shown.ids)) == len(shown.ids) == MAX_POINTS
    assert shown.speakers[:3] == ("s00", "s01", "s02")
    counts = Counter(shown.speaker)
    assert [counts[i] for i in range(10)] == [40] * 3 + [5] * 7
    place = dict(zip(embeddings.ids, range(len(embeddings.ids)), strict=True))
    assert list(shown.ids) == sorted(shown.ids, key=place.__getitem__)


def test_unknown_speakers_equal_vectors_and_short_lists():
    embeddings, _ = clusters([12])
    shown = project_embeddings(embeddings, {"u0": "a", "other": "b"})
    assert shown.speakers == ("a",)
    assert shown.speaker == (0, *[-1] * 11)
    assert np.isfinite(shown.points).all()
    assert project_embeddings(embeddings._replace(vectors=np.ones_like(embeddings.vectors))) is None
    assert project_embeddings(Embeddings(embeddings.ids[:9], embeddings.vectors[:9])) is None
