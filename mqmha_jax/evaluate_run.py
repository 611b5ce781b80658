"""``mqmha evaluate``: from a work directory and trial lists to scores, error rates and a threshold."""

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from mqmha_jax.config_io import require_same_fbank
from mqmha_jax.data.lists import check_trials, read_trials
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embed import Embedder, embed
from mqmha_jax.evaluation.evaluate import TrialResult, evaluate_trials, measure_trials
from mqmha_jax.evaluation.report import write_threshold
from mqmha_jax.evaluation.scoring import as_norm
from mqmha_jax.evaluation.selection import Selection, named
from mqmha_jax.evaluation.training_mean import load_mean, save_mean, training_mean
from mqmha_jax.models.head import unit_length
from mqmha_jax.train.checkpoint import LoadedNetwork, load_network

# Per cohort speaker so many utterances of three seconds make the mean embedding.
_COHORT_UTTERANCES, _COHORT_FRAMES = 20, 300


def evaluate_run(
    workdir: Path,
    *,
    data: Path | None = None,
    lists: Sequence[Path] = (),
    cohort: Path | None = None,
    top_n: int = 300,
    use_mean: bool = True,
    step: int | None = None,
    progress: bool = True,
) -> list[TrialResult]:
    """Score trial lists with the network of a run.

    Args:
      workdir: of the run. The mean training embedding and the threshold of the first list are kept there too.
      data: shards with the utterances of the lists; None: the run's dev shards.
      lists: trial lists; none: the run's dev list.
      cohort: shards whose speakers normalise the scores (adaptive s-norm); None: plain cosine.
      top_n: how many of the nearest cohort speakers normalise a score.
      use_mean: subtract the mean embedding of the training set.
      step: of the checkpoint; None: the newest.
      progress: show progress bars.

    Returns:
      One result per list, then, with a cohort, one per list after score normalisation.

    Raises:
      UserError: run, data and lists are missing or do not fit together.
    """
    network = load_network(workdir, step)
    config = network.config
    if not lists and not config.data.dev_trials:
        raise UserError(f"The run in {workdir} has no dev list; give one with --data DIR --trials FILE.")
    lists = lists or [Path(config.data.dev_trials)]
    shards = open_shards(data or config.data.dev)
    require_same_fbank(config.fbank, shards.spec, f"The shards in {shards.directory}")
    trials = {path.stem: read_trials(path) for path in lists}
    if len(trials) < len(lists):
        raise UserError("Two trial lists have the same file name, by which results are called; rename one of them.")
    for name, part in trials.items():
        check_trials(part, shards.utterances, name=name)

    embedder = Embedder(network.net, network.variables)
    mean = _mean(workdir, network, embedder, keep=step is None) if use_mean else None
    source = named(shards, [u for part in trials.values() for u in (*part.enrol, *part.test)])
    embeddings = embed(embedder, source, progress=progress)
    utt2spk = {name: shards.speakers[i] for name, i in zip(shards.utterances, shards.speaker, strict=True)}
    results = [
        evaluate_trials(embeddings, part, mean=mean, name=name, utt2spk=utt2spk) for name, part in trials.items()
    ]
    # verify compares by plain cosine after mean subtraction with the newest network: only its threshold is kept.
    if use_mean and step is None:
        write_threshold(workdir, results[0], step=network.step)
    if cohort:
        vectors = _cohort(embedder, open_shards(cohort), mean)
        results += [
            measure_trials(
                as_norm(embeddings, part, vectors, top_n=top_n, mean=mean),
                part,
                name=f"{name}_as-norm",
                utt2spk=utt2spk,
            )
            for name, part in trials.items()
        ]
    return results


def _mean(workdir: Path, network: LoadedNetwork, embedder: Embedder, *, keep: bool) -> Float32[np.ndarray, " E"]:
    mean = load_mean(workdir, network.step)
    if mean is None:
        try:
            shards = open_shards(network.config.data.train)
        except UserError as error:
            raise UserError(
                f"{error} The mean training embedding comes from there; --no-mean scores without it."
            ) from error
        mean = training_mean(embedder, shards)
        if keep:
            save_mean(workdir, mean, network.step)
    return mean


def _cohort(
    embedder: Embedder, shards: FbankShards, mean: Float32[np.ndarray, " E"] | None
) -> Float32[np.ndarray, "C E"]:
    """One vector per speaker: the mean of unit embeddings, shifted back because scoring subtracts the mean."""
    order = np.argsort(shards.speaker, kind="stable")
    rank = np.arange(len(order)) - np.searchsorted(shards.speaker[order], shards.speaker[order])
    chosen = order[rank < _COHORT_UTTERANCES]
    vectors = embed(embedder, Selection(shards, chosen, max_frames=_COHORT_FRAMES)).vectors
    offset = np.zeros_like(vectors[0]) if mean is None else mean
    sums = np.zeros((len(shards.speakers), vectors.shape[1]), np.float32)
    np.add.at(sums, shards.speaker[chosen], np.asarray(unit_length(jnp.asarray(vectors - offset[None]))))
    counts = np.bincount(shards.speaker[chosen], minlength=len(sums)).astype(np.float32)
    present = counts > 0
    return sums[present] / counts[present, None] + offset[None]
