"""Compares scoring and error rates with a loop over pairs and plain NumPy matrices: time, peak memory, numbers.

    python benchmarks/scoring.py            # full sizes, appended to benchmarks/results/scoring.jsonl
    python benchmarks/scoring.py --small    # a smoke run in seconds, recorded nowhere

Every method runs in a separate process. Its peak memory is that of the whole process, Python and JAX included; the
table also shows the memory after making the input. Times are medians without the first call, which compiles. A loop
does a part of the work and its time is extrapolated. The script checks that all methods give the same results.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import click
import numpy as np
from record import keep

RUNS, SAMPLE, CHUNK = 5, 1_000, 1_000_000


class Sizes(NamedTuple):
    """The amount of work.

    Attributes:
      utterances: N, the number of utterances on either side.
      trials: M, the number of trials.
      cohort: number of cohort speakers.
      top_n: number of nearest cohort speakers that count.
      looped: number of trials (or scores) that a loop does.
    """

    utterances: int
    trials: int
    cohort: int
    top_n: int
    looped: int
    embedding_dim: int = 256


FULL, SMALL = Sizes(4_700, 10_000_000, 5_994, 300, 50_000), Sizes(300, 50_000, 600, 50, 2_000)

# A method makes its input and returns the work to time, with the share of the task that the work does.
Method = Callable[[Sizes], tuple[Callable[[], np.ndarray], float]]


def embeddings(count: int, sizes: Sizes, seed: int) -> np.ndarray:
    """Draws embeddings ``[count, E]`` with a common offset, as raw embeddings have."""
    return np.random.default_rng(seed).standard_normal((count, sizes.embedding_dim), np.float32) + np.float32(0.1)


def pairs(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Draws the rows of M trials."""
    return tuple(np.random.default_rng(3).integers(sizes.utterances, size=(2, sizes.trials), dtype=np.int32))


def score_chunks(sizes: Sizes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draws M scores in parts; a tenth of them are targets."""
    for start in range(0, sizes.trials, CHUNK):
        rng = np.random.default_rng([4, start])
        count = min(CHUNK, sizes.trials - start)
        target = rng.random(count, np.float32) < 0.1
        yield rng.standard_normal(count, np.float32) * np.float32(0.1) + np.float32(0.35) * target, target


def all_scores(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Draws the same scores in one piece."""
    scores, target = np.empty(sizes.trials, np.float32), np.empty(sizes.trials, np.bool_)
    for i, (some, of_target) in enumerate(score_chunks(sizes)):
        scores[i * CHUNK :][: len(some)], target[i * CHUNK :][: len(some)] = some, of_target
    return scores, target


def units(vectors: np.ndarray) -> np.ndarray:
    """Scales rows to unit length."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosine_loop(sizes: Sizes) -> tuple[Callable[[], np.ndarray], float]:
    """Scores one trial at a time, as usual in evaluation scripts: dot product over the product of the norms."""
    enrol, test = embeddings(sizes.utterances, sizes, 0), embeddings(sizes.utterances, sizes, 1)
    rows = [side[: sizes.looped].tolist() for side in pairs(sizes)]

    def work() -> np.ndarray:
        scores = []
        for i, j in zip(*rows, strict=True):
            a, b = enrol[i], test[j]
            scores.append(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))
        return np.array(scores)

    return work, sizes.looped / sizes.trials


def cosine_numpy(sizes: Sizes) -> tuple[Callable[[], np.ndarray], float]:
    """Computes the whole matrix of cosines and reads it at the trials."""
    enrol, test = embeddings(sizes.utterances, sizes, 0), embeddings(sizes.utterances, sizes, 1)
    rows, columns = pairs(sizes)
    return lambda: (units(enrol) @ units(test).T)[rows, columns], 1


def cosine_ours(sizes: Sizes) -> tuple[Callable[[], np.ndarray], float]:
    """``pair_products`` of rows."""
    from mqmha_jax.evaluation.scoring.cosine import pair_products
    from mqmha_jax.evaluation.scoring.units import scale_to_units

    enrol, test = embeddings(sizes.utterances, sizes, 0), embeddings(sizes.utterances, sizes, 1)
    rows, columns = pairs(sizes)
    return lambda: pair_products(scale_to_units(enrol), scale_to_units(test), rows, columns), 1


def cosine_ours_by_name(sizes: Sizes) -> tuple[Callable[[], np.ndarray], float]:
    """``cosine_scores`` of a list of names: looking them up takes most of the time."""
    from mqmha_jax.evaluation.scoring.cosine import cosine_scores
    from mqmha_jax.types import Embeddings, Trials

    ids = tuple(f"id{i // 50:05d}/video{i // 5 % 10}/{i % 5:05d}.wav" for i in range(2 * sizes.utterances))
    vectors = np.concatenate([embeddings(sizes.utterances, sizes, seed) for seed in (0, 1)])
    rows, columns = pairs(sizes)
    names = tuple(map(ids.__getitem__, rows)), tuple(map(ids.__getitem__, columns + sizes.utterances))
    trials = Trials(*names, np.zeros(sizes.trials, np.bool_))
    return lambda: cosine_scores(Embeddings(ids, vectors), trials), 1


def as_norm_loop(sizes: Sizes) -> tuple[Callable[[], np.ndarray], float]:
    """Computes statistics once per utterance, then one trial at a time, for some rows of the matrix."""
    enrol, test = (units(embeddings(sizes.utterances, sizes, seed)) for seed in (0, 1))
    cohort = units(embeddings(sizes.cohort, sizes, 2))
    num_rows = max(1, sizes.looped // sizes.utterances)
    share = num_rows / sizes.utterances  # share of the matrix's rows and of the utterances on either side

    def statistics_of(vector: np.ndarray) -> tuple[float, float]:
        highest = np.sort(np.dot(cohort, vector))[-sizes.top_n :]
        return highest.mean(), highest.std()

    of_tests = [statistics_of(vector) for vector in test]  # timed below with the same share as the rest

    def work() -> np.ndarray:
        of_rows = [statistics_of(vector) for vector in enrol[:num_rows]]
        for vector in test[:num_rows]:
            statistics_of(vector)
        scores = []
        for i, (mean_i, deviation_i) in enumerate(of_rows):
            for j, (mean_j, deviation_j) in enumerate(of_tests):
                cosine = np.dot(enrol[i], test[j])
                scores.append(((cosine - mean_i) / deviation_i + (cosine - mean_j) / deviation_j) / 2)
        return np.array(scores)

    return work, share


def as_norm_loop_per_pair(sizes: Sizes) -> tuple[Callable[[], np.ndarray], float]:
    """Computes one trial at a time, with the statistics of both sides."""
    enrol, test = (units(embeddings(sizes.utterances, sizes, seed)) for seed in (0, 1))
    cohort = units(embeddings(sizes.cohort, sizes, 2))
    num_pairs = min(sizes.looped // 100, sizes.utterances)

    def work() -> np.ndarray:
        scores = []
        for vector in test[:num_pairs]:
            cosine = np.dot(enrol[0], vector)
            sides = [np.sort(np.dot(cohort, side))[-sizes.top_n :] for side in (enrol[0], vector)]
            scores.append(sum((cosine - side.mean()) / side.std() for side in sides) / 2)
        return np.array(scores)

    return work, num_pairs / sizes.utterances**2


def as_norm_numpy(sizes: Sizes) -> tuple[Callable[[], np.ndarray], float]:
    """Uses whole matrices: utterances by cohort, selection by partition, enrolment by test."""
    sides, cohort = [embeddings(sizes.utterances, sizes, seed) for seed in (0, 1)], embeddings(sizes.cohort, sizes, 2)

    def work() -> np.ndarray:
        enrol, test, others = units(sides[0]), units(sides[1]), units(cohort)
        nearest = [np.partition(side @ others.T, -sizes.top_n, axis=1)[:, -sizes.top_n :] for side in (enrol, test)]
        (mean_i, mean_j), (deviation_i, deviation_j) = ([f(x, axis=1) for x in nearest] for f in (np.mean, np.std))
        cosine = enrol @ test.T
        return ((cosine - mean_i[:, None]) / deviation_i[:, None] + (cosine - mean_j) / deviation_j) / 2

    return work, 1


def as_norm_ours(sizes: Sizes) -> tuple[Callable[[], np.ndarray], float]:
    """``cohort_statistics`` and ``score_matrix``."""
    from mqmha_jax.evaluation.scoring.cosine import score_matrix
    from mqmha_jax.evaluation.scoring.normalization import cohort_statistics
    from mqmha_jax.types import Embeddings

    ids = tuple(map(str, range(sizes.utterances)))
    sides, cohort = [embeddings(sizes.utterances, sizes, seed) for seed in (0, 1)], embeddings(sizes.cohort, sizes, 2)

    def work() -> np.ndarray:
        of_enrol, of_test = (cohort_statistics(Embeddings(ids, side), cohort, top_n=sizes.top_n) for side in sides)
        return score_matrix(*sides, enrol_statistics=of_enrol, test_statistics=of_test)

    return work, 1


def eer_loop(sizes: Sizes) -> tuple[Callable[[], np.ndarray], float]:
    """Counts along the sorted scores in Python; the time is extrapolated in proportion to the number of scores."""
    scores, target = (values[: sizes.looped] for values in all_scores(sizes))

    def work() -> np.ndarray:
        ranked = sorted(zip(scores.tolist(), target.tolist(), strict=True))
        num_targets = int(target.sum())
        misses, false_alarms = 0, len(ranked) - num_targets
        for _, is_target in ranked:
            if misses / num_targets >= false_alarms / (len(ranked) - num_targets):
                break
            misses, false_alarms = misses + is_target, false_alarms - (not is_target)
        return np.array([misses / num_targets])

    return work, sizes.looped / sizes.trials


def eer_numpy(sizes: Sizes) -> tuple[Callable[[], np.ndarray], float]:
    """Sorts, cumulates and takes the nearest point; ignores ties and does not interpolate."""
    scores, target = all_scores(sizes)

    def work() -> np.ndarray:
        ranked = target[np.argsort(scores)]
        miss = np.cumsum(ranked) / ranked.sum()
        false_alarm = 1 - np.cumsum(~ranked) / (~ranked).sum()
        return miss[np.argmin(np.abs(miss - false_alarm))][None]

    return work, 1


def eer_ours(sizes: Sizes) -> tuple[Callable[[], np.ndarray], float]:
    """``equal_error_rate``: exact with ties; refuses scores that are not finite."""
    from mqmha_jax.evaluation.metrics.detection import equal_error_rate

    scores, target = all_scores(sizes)
    return lambda: np.array([equal_error_rate(scores, target)]), 1


# The methods of each task, the loop first, and how far their results may differ from ours.
TASKS: dict[str, tuple[tuple[Method, ...], float]] = {
    "cosine": ((cosine_loop, cosine_numpy, cosine_ours, cosine_ours_by_name), 1e-5),
    "as_norm": ((as_norm_loop, as_norm_loop_per_pair, as_norm_numpy, as_norm_ours), 1e-3),
    "eer": ((eer_loop, eer_numpy, eer_ours), 1e-6),
}
METHODS = {method.__name__: method for methods, _ in TASKS.values() for method in methods}


@click.command(context_settings={"show_default": True})
@click.option("--small", is_flag=True, help="Use small sizes and record nothing.")
@click.option("--method", type=click.Choice(tuple(METHODS)), help="Measure one method in this process.")
def main(small: bool, method: str | None) -> None:
    """Measure all methods, each in its own process; print and record the table."""
    sizes = SMALL if small else FULL
    if method:
        click.echo(json.dumps(measure(METHODS[method], sizes)))
        return
    record: dict[str, Any] = {"sizes": sizes._asdict()}
    click.echo(f"{sizes._asdict()}, median of {RUNS} runs")
    click.echo(f"{'':22}{'time':>12}{'x loop':>9}{'peak MiB':>10}{'of it input':>13}")
    for methods, tolerance in TASKS.values():
        rows = {one.__name__: in_own_process(one.__name__, small) for one in methods}
        ours = next(np.array(row["sample"]) for name, row in rows.items() if name.endswith("_ours"))
        loop = next(iter(rows.values()))["seconds"]
        for name, row in rows.items():
            sample = np.array(row.pop("sample"))
            if name != "eer_loop":  # another, smaller list
                np.testing.assert_allclose(sample, ours[: len(sample)], atol=tolerance)
            times = f"{row['seconds']:10.3f} s{loop / row['seconds']:9.1f}"
            note = f"   extrapolated from {row['share']:.2g} of it" if row["share"] < 1 else ""
            click.echo(f"{name:22}{times}{row['peak_mib']:10,}{row['input_mib']:13,}{note}")
        record |= rows
    if not small:
        keep("scoring", record)


def measure(method: Method, sizes: Sizes) -> dict[str, Any]:
    """Measures time and memory of one method in this process."""
    work, share = method(sizes)
    input_mib = peak_mib()
    seconds = []
    for _ in range(RUNS + 1 if share == 1 else 1):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(seconds[1:] or seconds) / share,
        "first_seconds": seconds[0],
        "share": share,
        "peak_mib": peak_mib(),
        "input_mib": input_mib,
        "sample": result.ravel()[:SAMPLE].tolist(),
    }


def peak_mib() -> int:
    """Returns the peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 if sys.platform != "darwin" else 1024) // 1024


def in_own_process(method: str, small: bool) -> dict[str, Any]:
    """Runs ``measure`` in a fresh process and returns its answer."""
    command = [sys.executable, __file__, "--method", method, *(["--small"] if small else [])]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


if __name__ == "__main__":
    main()
