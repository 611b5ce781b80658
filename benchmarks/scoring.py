"""Cosine scores of a million trials: a NumPy dot per pair, as evaluation scripts do it, beside ``cosine_scores``.

    python benchmarks/scoring.py

Both start from utterance ids and end with one float per trial. The table shows the median of several runs.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

from mqmha_jax.evaluation.metrics import detection_curve
from mqmha_jax.evaluation.scoring import cosine_scores
from mqmha_jax.types import Embeddings, Trials

NUM_UTTERANCES, NUM_TRIALS, EMBEDDING_DIM, RUNS = 5_000, 1_000_000, 256, 5


def make_trials() -> tuple[Embeddings, Trials]:
    """Random embeddings and trials of VoxCeleb1's shape: few utterances, each in many trials."""
    rng = np.random.default_rng(0)
    ids = tuple(f"id{i // 50:05d}/video{i // 5 % 10}/{i % 5:05d}.wav" for i in range(NUM_UTTERANCES))
    vectors = rng.standard_normal((NUM_UTTERANCES, EMBEDDING_DIM), np.float32)
    enrol, test = rng.integers(NUM_UTTERANCES, size=(2, NUM_TRIALS))
    target = rng.random(NUM_TRIALS) < 0.5
    return Embeddings(ids, vectors), Trials(tuple(ids[i] for i in enrol), tuple(ids[i] for i in test), target)


def pair_by_pair(embeddings: Embeddings, trials: Trials) -> np.ndarray:
    """One dot product of unit vectors per trial, in a loop."""
    units = embeddings.vectors / np.linalg.norm(embeddings.vectors, axis=1, keepdims=True)
    unit_of = dict(zip(embeddings.ids, units, strict=True))
    return np.array([np.dot(unit_of[a], unit_of[b]) for a, b in zip(trials.enrol, trials.test, strict=True)])


def median_seconds(work: Callable[[], object]) -> float:
    """Median wall time over the runs; the first call, which compiles, does not count."""
    work()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    """Prints both times and their ratio."""
    embeddings, trials = make_trials()
    scores = cosine_scores(embeddings, trials)
    difference = float(np.abs(scores - pair_by_pair(embeddings, trials)).max())
    loop = median_seconds(lambda: pair_by_pair(embeddings, trials))
    ours = median_seconds(lambda: cosine_scores(embeddings, trials))
    curve = median_seconds(lambda: detection_curve(scores, trials.target))
    print(f"{NUM_TRIALS:,} trials over {NUM_UTTERANCES:,} embeddings of size {EMBEDDING_DIM}, median of {RUNS} runs")
    print(f"NumPy, pair by pair   {loop:7.3f} s")
    print(f"cosine_scores         {ours:7.3f} s   {loop / ours:.1f} times as fast; largest difference {difference:.1e}")
    print(f"detection_curve       {curve:7.3f} s   (EER and minDCF at every prior)")


if __name__ == "__main__":
    main()
