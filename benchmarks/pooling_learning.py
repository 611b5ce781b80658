"""Compares poolings that learn from few speakers, at equal steps, on the frames of a frozen published encoder.

The pooling and the embedding layer start at random and learn from the training speakers of
``fine_tuning.py --hold-out``; the encoder is CAM++ as published, so a run takes seconds. Reports the EER on held-out
speakers with utterances cut to several durations, the accuracy on the training data, and how sharp the attention is
(``attention.py``). This says which pooling learns better from few speakers on good frames. It does not say how an
encoder that learns with it turns out.

    python benchmarks/pooling_learning.py SPEECH WORK --seeds 0,1,2 --variants tstp,mqmha,gentle
"""

import itertools
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np
from attention import describe_weights
from campplus_tail import Frames
from fine_tuning import Bench, train_tail
from mean_over_lists import TrialScores, compare_means, equal_error_rates
from record import keep

from mqmha_jax.compilation_cache import use_compilation_cache
from mqmha_jax.config_io import load_config
from mqmha_jax.models.pooling.mqmha import MQMHA
from mqmha_jax.models.speaker_net import SpeakerNet
from mqmha_jax.runs.load_network import load_network

_MQMHA = ["model.pooling=mqmha", "model.pooling.heads=8", "model.pooling.queries=2"]
_SMALL = "model.pooling.scorer_scale=0.1"  # attention starts almost uniform
VARIANTS = {
    "tstp": ["model.pooling=tstp"],
    "mqmha": _MQMHA,
    "one_query": [*_MQMHA, "model.pooling.queries=1"],
    "small_start": [*_MQMHA, _SMALL],
    "slow": [*_MQMHA, "optimizer.rates.net/pooling=0.1"],
    "gentle": [*_MQMHA, _SMALL, "optimizer.rates.net/pooling=0.1"],
    "gentle_one_query": [*_MQMHA, "model.pooling.queries=1", _SMALL, "optimizer.rates.net/pooling=0.1"],
    "small_one_query": [*_MQMHA, "model.pooling.queries=1", _SMALL],
    "two_layers": [*_MQMHA, "model.pooling.layers=2"],
    "two_layers_small": [*_MQMHA, "model.pooling.layers=2", _SMALL],
    "two_layers_context": [*_MQMHA, "model.pooling.layers=2", "model.pooling.context=true"],
    "two_layers_context_small": [*_MQMHA, "model.pooling.layers=2", "model.pooling.context=true", _SMALL],
}
_FROM_SCRATCH = [
    "optimizer.rates={}",
    "optimizer.frozen=[]",
    "optimizer.learning_rate=0.002",
    "optimizer.weight_decay=0.05",
    "data.batch_size=48",
    "loss.margin_start=0.1",
    "loss.margin_end=0.4",
]
_SECONDS = (1, 2, 4)
_PATH = click.Path(path_type=Path)


@click.command(context_settings={"show_default": True})
@click.argument("speech", type=click.Path(path_type=Path, exists=True))
@click.argument("work", type=_PATH)
@click.option("--start", type=_PATH, default=Path("build/pretrained/campplus"), help="Imported CAM++.")
@click.option("--variants", default=",".join(VARIANTS), help="Variants to train, separated by commas.")
@click.option("--seeds", default="0,1,2", help="Seeds, separated by commas.")
@click.option("--steps", default=500, help="Steps of each run.")
@click.option("--crop", default=100, help="Frames of 20 ms per example.")
@click.argument("overrides", nargs=-1)
def main(
    speech: Path,
    work: Path,
    start: Path,
    variants: str,
    seeds: str,
    steps: int,
    crop: int,
    overrides: tuple[str, ...],
) -> None:
    """Train the variants, print and record the figures, and compare each variant with the first."""
    use_compilation_cache()
    bench = Bench(speech, work, load_network(start), hold_out=True, layer="transit3")
    found: dict[tuple[str, int], list[TrialScores]] = {}
    names = variants.split(",")
    for variant, seed in itertools.product(names, map(int, seeds.split(","))):
        options = [*_FROM_SCRATCH, f"train.steps={steps}", f"train.seed={seed}", *VARIANTS[variant], *overrides]
        config = load_config("finetune", options)
        net = bench.tail(config)
        _, last, accuracy = train_tail(config, bench, net, crop, from_scratch=True)
        figures: dict[str, Any] = {"accuracy": accuracy, "eer": {}, "attention": {}}
        for seconds in _SECONDS:
            scores = bench.evaluate(net, last, mean=True, max_frames=50 * seconds)
            found.setdefault((variant, seconds), []).append(scores)
            rates = equal_error_rates(scores, bench.lists)
            figures["eer"][f"{seconds} s"] = {**rates, "mean": float(np.mean(list(rates.values())))}
            if isinstance(net.pooling, MQMHA):
                figures["attention"][f"{seconds} s"] = _attention(net, last, bench.frames, bench.rows, 50 * seconds)
        about = {"variant": variant, "seed": seed, "steps": steps, "crop": crop, "overrides": list(overrides)}
        keep("pooling_learning", {**about, **figures})
        shown = "  ".join(f"{length} {rates['mean']:.2%}" for length, rates in figures["eer"].items())
        used = "  ".join(f"{length} {x['used']}" for length, x in figures["attention"].items())
        click.echo(f"{variant} seed {seed}: accuracy {accuracy:.3f}; mean EER {shown}; frames used {used}")
    for variant, seconds in itertools.product(names[1:], _SECONDS):
        compared = compare_means(found[names[0], seconds], found[variant, seconds], bench.lists)
        click.echo(f"{seconds} s, {names[0]} -> {variant}: {compared}")


def _attention(net: SpeakerNet, variables: Any, frames: Frames, rows: np.ndarray, length: int) -> dict[str, Any]:
    """Figures of the attention on the first frames of training utterances that are long enough."""
    long = [row for row in rows if frames.lengths[row] >= length - 1][:64]
    values = np.stack([frames.of(int(row))[: length - 1] for row in long]).astype(np.float32)
    _, kept = net.apply(
        variables,
        jnp.asarray(values),
        jnp.ones(values.shape[:2], bool),
        train=False,
        capture_intermediates=lambda module, method: isinstance(module, MQMHA) and method == "_weights",
    )
    return describe_weights(np.asarray(jax.device_get(kept["intermediates"]["pooling"]["_weights"][0])))


if __name__ == "__main__":
    main()
