"""A map of embeddings: two dimensions in which near neighbours stay near."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from mqmha_jax.types import Embeddings

MAX_POINTS = 1_000
MIN_POINTS = 10  # fewer different embeddings make no map

_NAMED_SPEAKERS, _PER_NAMED_SPEAKER = 10, 40
_PERPLEXITY = 30.0


class EmbeddingMap(NamedTuple):
    """Utterances on a plane.

    Attributes:
      ids: n utterances.
      points: ``[n, 2]``; only which points are near each other means something.
      speakers: the speakers that are told apart in the picture; empty where speakers are unknown.
      speaker: of each utterance, position among ``speakers`` or -1 for all others.
    """

    ids: tuple[str, ...]
    points: Float64[np.ndarray, "n 2"]
    speakers: tuple[str, ...]
    speaker: tuple[int, ...]


def embedding_map(
    embeddings: Embeddings, utt2spk: Mapping[str, str] | None = None, *, seed: int = 0
) -> EmbeddingMap | None:
    """Projects utterances by t-SNE (van der Maaten and Hinton, 2008) on the cosine distance.

    Of many utterances 1,000 are shown: up to 40 of each of the ten speakers with the most utterances, and others drawn
    at random.

    Args:
      embeddings: N utterances, vectors ``[N, E]``; their mean is subtracted first.
      utt2spk: speaker of each utterance; those that are missing count as of an unknown speaker.
      seed: of the drawing and of the projection.

    Returns:
      The map; None with fewer than ten different embeddings.
    """
    known = utt2spk or {}
    speaker_of = [known.get(utterance) for utterance in embeddings.ids]
    counts = Counter(speaker for speaker in speaker_of if speaker is not None)
    named = sorted(counts, key=lambda speaker: (-counts[speaker], speaker))[:_NAMED_SPEAKERS]
    rows = _shown(speaker_of, named, np.random.default_rng(seed))
    vectors = embeddings.vectors[rows]
    if len(np.unique(vectors, axis=0)) < MIN_POINTS:
        return None
    centred = vectors - vectors.mean(axis=0)[None]
    units = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    number: dict[str | None, int] = {speaker: i for i, speaker in enumerate(named)}
    return EmbeddingMap(
        ids=tuple(embeddings.ids[row] for row in rows),
        points=_project(units, seed),
        speakers=tuple(named),
        speaker=tuple(number.get(speaker_of[row], -1) for row in rows),
    )


def _project(units: Float[np.ndarray, "n E"], seed: int) -> Float64[np.ndarray, "n 2"]:
    # Importing takes a second, which only those who draw should pay.
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]
    from threadpoolctl import threadpool_limits  # type: ignore[import-not-found, import-untyped, unused-ignore]

    perplexity = min(_PERPLEXITY, (len(units) - 1) / 3)
    # Between unit vectors the squared Euclidean distance, which t-SNE takes, is twice the cosine distance.
    projection = TSNE(perplexity=perplexity, init="pca", max_iter=500, random_state=seed)
    # On a busy machine threads that wait for each other take ten times as long as one, which gives equal pictures.
    with threadpool_limits(1):
        return np.asarray(projection.fit_transform(units), np.float64)


def _shown(speaker_of: list[str | None], named: list[str], rng: np.random.Generator) -> list[int]:
    """Rows of the utterances that are drawn, ascending."""
    order = rng.permutation(len(speaker_of)).tolist()
    room = dict.fromkeys(named, _PER_NAMED_SPEAKER)
    chosen, others = [], []
    for row in order:
        speaker = speaker_of[row]
        if speaker in room and room[speaker] > 0:
            room[speaker] -= 1
            chosen.append(row)
        elif speaker not in room:
            others.append(row)
    return sorted(chosen + others[: MAX_POINTS - len(chosen)])
