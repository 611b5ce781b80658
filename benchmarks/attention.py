"""Measures how the attention of a trained MQMHA pooling looks, and error rates by duration.

For several durations, on the first frames of utterances that are long enough: how many frames the attention uses (the
exponential of its entropy, as a share of all frames: 1 is plain statistics), the largest weight over the mean one, and
the correlation of the weights of two queries of one head. Then the EER with utterances cut to these durations, and the
accuracy that the log gives for the training data. The error rates work with any pooling.

    python benchmarks/attention.py RUN --data SHARDS --trials LIST --trials LIST
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jax.numpy as jnp
import numpy as np
from record import keep

from mqmha_jax.compilation_cache import use_compilation_cache
from mqmha_jax.data.lists import read_trials
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.evaluation.embeddings.embed import Embedder, embed
from mqmha_jax.evaluation.embeddings.selection import Selection
from mqmha_jax.evaluation.embeddings.training_mean import compute_training_mean
from mqmha_jax.evaluation.metrics.detection import equal_error_rate
from mqmha_jax.evaluation.scoring.cosine import cosine_scores
from mqmha_jax.evaluation.scoring.units import centre
from mqmha_jax.features.cmn import subtract_mean
from mqmha_jax.models.pooling.mqmha import MQMHA
from mqmha_jax.runs.load_network import LoadedNetwork, load_network
from mqmha_jax.runs.log_lines import read_log
from mqmha_jax.types import Embeddings

_UTTERANCES = 64  # whose attention is measured, evenly spaced
_PATH = click.Path(path_type=Path, exists=True)


@click.command(context_settings={"show_default": True})
@click.argument("run", type=_PATH)
@click.option("--data", type=_PATH, required=True, help="Shards of the lists.")
@click.option("--trials", type=_PATH, multiple=True, required=True, help="Trial list; may be repeated.")
@click.option("--seconds", default="1,2,4,7", help="Durations, separated by commas.")
def main(run: Path, data: Path, trials: tuple[Path, ...], seconds: str) -> None:
    """Print and record the figures of RUN."""
    use_compilation_cache()
    network, shards = load_network(run), open_shards(data)
    figures: dict[str, Any] = {"run": run.name, "step": network.step, "pooling": str(network.config.model.pooling)}
    logged = [line for line in read_log(run) if "accuracy" in line]
    figures["training"] = {name: logged[-1][name] for name in ("accuracy", "loss")} if logged else {}
    click.echo(f"{run.name}, step {network.step}: {figures['training']}")
    cuts = [*map(float, seconds.split(","))]
    if isinstance(network.net.pooling, MQMHA):
        figures["attention"] = {}
        for cut in cuts:
            found = figures["attention"][f"{cut:g} s"] = _attention(network, shards, round(100 * cut))
            click.echo(f"{cut:g} s: {found}")
    figures["eer"] = {}
    for name, length, eer in _error_rates(network, shards, trials, [*cuts, None]):
        shown = "whole" if length is None else f"{length:g} s"
        figures["eer"].setdefault(name, {})[shown] = eer
        click.echo(f"{name}, {shown}: EER {eer:.2%}")
    keep("attention", figures)


def _attention(network: LoadedNetwork, shards: FbankShards, num_frames: int) -> dict[str, Any]:
    """Figures of the attention on crops of one length, averaged over utterances."""
    long = np.flatnonzero(np.asarray(shards.num_frames) >= num_frames)
    if not len(long):
        return {"utterances": 0}
    rows = long[np.linspace(0, len(long) - 1, min(len(long), _UTTERANCES)).round().astype(int)]
    fbank = jnp.asarray(np.stack([shards.crop(int(row), 0, num_frames) for row in rows]), jnp.float32)
    mask = jnp.ones(fbank.shape[:2], bool)
    _, kept = network.net.apply(
        network.variables,
        subtract_mean(fbank, mask),
        mask,
        train=False,
        capture_intermediates=lambda module, method: isinstance(module, MQMHA) and method == "_weights",
    )
    return {"utterances": len(rows), **describe_weights(np.asarray(kept["intermediates"]["pooling"]["_weights"][0]))}


def describe_weights(weights: np.ndarray) -> dict[str, Any]:
    """Figures of attention weights ``[B,H,t,Q]`` or ``[B,H,t,Q,d]`` over frames that are all real."""
    weights = weights.astype(np.float64).reshape(*weights.shape[:4], -1).mean(axis=-1)
    t = weights.shape[2]
    entropy = -(weights * np.log(np.maximum(weights, 1e-30))).sum(axis=2)
    used = np.exp(entropy) / t  # [B, H, Q]
    return {
        "used": round(float(used.mean()), 3),
        "used_by_head_and_query": used.mean(axis=0).round(2).tolist(),
        "largest_over_mean": round(float((weights.max(axis=2) * t).mean()), 2),
        "correlation_of_queries": _correlation(weights),
    }


def _correlation(weights: np.ndarray) -> float | None:
    """Mean correlation over time of the weights of two queries of one head."""
    if weights.shape[3] < 2:
        return None
    off = weights - weights.mean(axis=2, keepdims=True)
    unit = off / np.maximum(np.linalg.norm(off, axis=2, keepdims=True), 1e-30)
    products = np.einsum("bhtq,bhtr->bhqr", unit, unit)
    return round(float(products[..., *np.triu_indices(products.shape[-1], 1)].mean()), 3)


def _error_rates(
    network: LoadedNetwork, shards: FbankShards, lists: tuple[Path, ...], seconds: list[float | None]
) -> Iterator[tuple[str, float | None, float]]:
    """EER of each list with its utterances cut to each duration; None: whole. Shorter ones stay as they are."""
    embedder = Embedder(network.net, network.variables)
    mean = compute_training_mean(embedder, open_shards(network.config.data.train))
    row_of = {name: row for row, name in enumerate(shards.utterances)}
    for path in lists:
        trials = read_trials(path)
        rows = np.array(sorted(row_of[name] for name in {*trials.enrol, *trials.test}))
        longest = int(np.asarray(shards.num_frames)[rows].max())
        for length in seconds:
            if length is not None and 100 * length >= longest:
                continue
            limit = longest if length is None else round(100 * length)
            embedded: Embeddings = centre(embed(embedder, Selection(shards, rows, max_frames=limit)), mean)
            yield path.stem, length, equal_error_rate(cosine_scores(embedded, trials), trials.target)


if __name__ == "__main__":
    main()
