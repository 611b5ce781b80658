"""Rebuilds the peer of ``real_speech_race.py`` in our system, then changes it step by step into ``configs/laptop.py``.

The peer (``torch_tdnn.py``) and its twin differ only in the program, so their EER should differ only by chance. Each
further network drops one more difference between the twin and the laptop's configuration, which shows what each
difference does to each list. All learn from the same speech folder (``real_speech.py`` describes it) for equally many
steps. Scores are cosines of the evaluation lists; choose no setting by them. Appends to ``results/twin.jsonl``.

    python benchmarks/twin.py SPEECH WORK --torch-python ENV/bin/python --steps 2000 --seeds 0,1

A second call skips what is done; other settings need another WORK.
"""

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import click
from mean_over_lists import TrialScores, compare_means, equal_error_rates
from real_speech import TRAINING, eval_csv, eval_lists, prepare_shards, prepare_training
from real_speech_race import Ours, Peer, label_trials, train_in_turns, write_peer_lists, write_peer_training
from record import keep
from tabulate import tabulate

from mqmha_jax.config_io import load_config

ONE_NOISE_COPY = "clean,noise"
COPIES = ",".join(["clean:2", *TRAINING[1:]])
FEWER_COPIES, FEWER_SPEEDS = "one noise copy instead of four versions", "one speed instead of three"
# What the peer has and the laptop's configuration has not, in the order in which the differences go.
DIFFERENCES: dict[str, tuple[str, ...]] = {
    "64 bands and 128 dimensions instead of 80 and 192": ("fbank.num_mel_bins=64", "model.embedding_dim=128"),
    "speakers drawn evenly instead of by their speech": ("data.sampling=speaker", "data.speaker_exponent=null"),
    "the full frame rate instead of half": (
        "model.encoder.strides=[1,1,1,1,1]",
        "model.encoder.dilations=[1,2,3,1,1]",
    ),
    "the one-cycle schedule": (
        "optimizer.learning_rate=3e-3",
        "optimizer.final_learning_rate=1.2e-8",
        "optimizer.warmup=0.3",
        "optimizer.weight_decay=0.01",
        "optimizer.max_gradient_norm=0",
    ),
    "the full margin from the start, no penalty": (
        "loss.margin_start=0",
        "loss.margin_end=0",
        "loss.top_k=0",
        "loss.penalty=0",
    ),
    FEWER_COPIES: (),
    FEWER_SPEEDS: (),
    "one crop of each speaker, no loss over pairs": ("data.utterances_per_speaker=1", "loss.pairs=[]"),
}
PATH = click.Path(path_type=Path)
ALONE = 3600.0  # seconds of a turn; with one contender, turns change nothing


class Variant(NamedTuple):
    """A network between the twin and the laptop's configuration; named after the difference that it dropped last."""

    name: str
    versions: str
    speeds: str
    options: tuple[str, ...]


def list_variants() -> Iterator[Variant]:
    """Yields the twin first and the laptop's configuration last."""
    for dropped in range(len(DIFFERENCES) + 1):
        kept = [*DIFFERENCES][dropped:]
        yield Variant(
            "the twin" if not dropped else f"without: {[*DIFFERENCES][dropped - 1]}",
            ONE_NOISE_COPY if FEWER_COPIES in kept else COPIES,
            "1.0" if FEWER_SPEEDS in kept else "1.0,0.9,1.1",
            tuple(option for name in kept for option in DIFFERENCES[name]),
        )


@click.command(context_settings={"show_default": True})
@click.argument("speech", type=click.Path(path_type=Path, exists=True))
@click.argument("work", type=PATH)
@click.option("--torch-python", required=True, help="An interpreter that has torch, numpy and click.")
@click.option("--steps", default=2000, help="Training steps of each network.")
@click.option("--seeds", default="0,1", help="Seeds of the peer and of its twin; the others have the first one.")
def main(speech: Path, work: Path, torch_python: str, steps: int, seeds: str) -> None:
    """Train all networks, print and record the table."""
    work.mkdir(parents=True, exist_ok=True)
    trials, numbers = dict(eval_lists(speech)), [*map(int, seeds.split(","))]
    peer = Peer(
        torch_python, write_peer_training(speech, work, ONE_NOISE_COPY), write_peer_lists(speech, work, trials), trials
    )
    variants = [*list_variants()]
    scores: dict[str, list[TrialScores]] = {"the peer": [], variants[0].name: []}
    for seed in numbers:
        output = work / f"peer_seed{seed}"
        train_in_turns({output: peer.command(output, steps, seed)}, ALONE)
        scores["the peer"].append(peer.scores(output).cosine)
    for place, variant in enumerate(variants):
        ours = _prepare(variant, speech, work, trials)
        for seed in numbers if place == 0 else numbers[:1]:
            output = work / f"{place}_seed{seed}"
            train_in_turns({output: ours.command(output, steps, seed)}, ALONE)
            scores.setdefault(variant.name, []).append(ours.scores(output).cosine)
    lists = {part: label_trials(path, ours.eval_shards[part]) for part, path in trials.items()}
    rows = []
    for name, of_seeds in scores.items():
        rates = [equal_error_rates(one, lists) for one in of_seeds]
        means = {part: statistics.mean(rate[part] for rate in rates) for part in lists}
        keep("twin", {"network": name, "steps": steps, "seeds": numbers[: len(rates)], "eer": rates})
        rows.append([name, *(f"{mean:.1%}" for mean in means.values()), f"{statistics.mean(means.values()):.1%}"])
    click.echo(tabulate(rows, ["network", *lists, "mean"], tablefmt="github"))
    click.echo(f"twin against peer: {compare_means(scores['the peer'], scores['the twin'], lists)}")


def _prepare(variant: Variant, speech: Path, work: Path, trials: Mapping[str, Path]) -> Ours:
    """Makes the shards of a variant, once for all that share them."""
    fbank = load_config("laptop", variant.options).fbank
    bins = fbank.num_mel_bins
    shards = {
        part: prepare_shards(speech, work / f"eval_{part}_{bins}", eval_csv(speech, part), fbank) for part in trials
    }
    train = speech / "lists" / "train.csv"
    train_shards, joined = prepare_training(
        speech, work / f"train_{bins}", train, fbank, variant.versions, variant.speeds
    )
    return Ours("laptop", shards, trials, [*joined, *variant.options], cohort=train_shards[0])


if __name__ == "__main__":
    main()
