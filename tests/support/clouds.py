"""Embeddings of made-up speakers: a cloud around each one's centre, and lists over them."""

from itertools import combinations

import numpy as np

from mqmha_jax.types import Embeddings, Trials


def cloud(speakers: int, *, utterances: int = 4, first: int = 0, spread: float = 1.0, seed: int = 0) -> Embeddings:
    """Makes embeddings ``[speakers * utterances, 8]`` of utterances ``s0/u0`` ..."""
    rng = np.random.default_rng([seed, first])
    names = [f"s{speaker}/u{take}" for speaker in range(first, first + speakers) for take in range(utterances)]
    centres = np.repeat(rng.normal(size=(speakers, 8)), utterances, axis=0)
    return Embeddings(tuple(names), (centres + spread * rng.normal(size=centres.shape) + 0.5).astype(np.float32))


def speakers_of(ids: tuple[str, ...]) -> dict[str, str]:
    return {name: name.split("/")[0] for name in ids}


def all_pairs(ids: tuple[str, ...]) -> Trials:
    enrol, test = zip(*combinations(ids, 2), strict=True)
    return Trials(enrol, test, np.array([a.split("/")[0] == b.split("/")[0] for a, b in zip(enrol, test, strict=True)]))
