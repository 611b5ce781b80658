"""Maps embeddings to two dimensions in which near neighbours stay near."""

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
      points: ``[n, 2]``; only nearness has a meaning.
      speakers: the speakers that the picture shows by name; empty if speakers are unknown.
      speaker: position of each utterance's speaker in ``speakers``, or -1 for all others.
    """

    ids: tuple[str, ...]
    points: Float64[np.ndarray, "n 2"]
    speakers: tuple[str, ...]
    speaker: tuple[int, ...]


def project_embeddings(
    embeddings: Embeddings, utt2spk: Mapping[str, str] | None = None, *, seed: int = 0
) -> EmbeddingMap | None:
    """Projects utterances by t-SNE (van der Maaten and Hinton, 2008) on the cosine distance.

    The map shows at most 1,000 utterances: up to 40 of each of the ten speakers with the most utterances, and others
    drawn at random.

    Args:
      embeddings: N utterances, vectors ``[N, E]``; their mean is subtracted first.
      utt2spk: speaker of each utterance; the speaker of a missing utterance is unknown.
      seed: seed of the drawing and the projection.

    Returns:
      The map; None with fewer than ten different embeddings.
    """
    known = utt2spk or {}
    speaker_of = [known.get(utterance) for utterance in embeddings.ids]
    counts = Counter(speaker for speaker in speaker_of if speaker is not None)
    named = sorted(counts, key=lambda speaker: (-counts[speaker], speaker))[:_NAMED_SPEAKERS]
    rows = _choose_shown(speaker_of, named, np.random.default_rng(seed))
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
    # The import takes a second: only a report with a map pays it.
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]
    from threadpoolctl import threadpool_limits  # type: ignore[import-not-found, import-untyped, unused-ignore]

    perplexity = min(_PERPLEXITY, (len(units) - 1) / 3)
    # t-SNE takes the squared Euclidean distance, which is twice the cosine distance between unit vectors.
    projection = TSNE(perplexity=perplexity, init="pca", max_iter=500, random_state=seed)
    # One thread always gives equal pictures, and on a busy machine several that wait for each other take ten times as
    # long.
    with threadpool_limits(1):
        return np.asarray(projection.fit_transform(units), np.float64)


def _choose_shown(speaker_of: list[str | None], named: list[str], rng: np.random.Generator) -> list[int]:
    """Chooses the rows of the utterances to show, ascending."""
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
