"""Fine-tunes a published CAM++ on a folder of real speech and measures whether it helped on speakers outside it.

Trains ``configs/finetune.py`` in two arms: the network's own pooling with an AM-softmax, and MQMHA with the inter-topK
penalty. Then moves each result back towards the network before (``mqmha average --towards``) by the given shares; a
share of 1 is that network with the mean of the training embeddings subtracted. Appends every evaluation to
``benchmarks/results/fine_tuning.jsonl``.

    make pretrained
    python benchmarks/fine_tuning.py SPEECH WORK --hold-out --arms own train.steps=300   # choose settings
    python benchmarks/fine_tuning.py SPEECH WORK --seeds 0,1,2                           # the table

SPEECH is as for ``real_speech.py``. A second call resumes: it repeats no finished run, evaluation or shard.
"""

import itertools
from pathlib import Path

import click
import numpy as np
from held_out_speakers import split_training_speakers
from mean_over_lists import compare_means
from real_speech import eval_csv, eval_lists, prepare_shards
from record import keep

from mqmha_jax.compilation_cache import use_compilation_cache
from mqmha_jax.config_io import load_config
from mqmha_jax.evaluation.evaluate_lists import evaluate_run
from mqmha_jax.evaluation.metrics.measure_list import Measuring
from mqmha_jax.evaluation.report.tables import write_evaluation
from mqmha_jax.runs.average import Towards, average_checkpoints
from mqmha_jax.runs.metrics_log import read_log
from mqmha_jax.runs.workdir import read_config
from mqmha_jax.train.loop import train

ARMS = {
    "own": ["loss.top_k=0", "loss.penalty=0"],
    "mqmha": [
        "model.pooling=mqmha",
        "model.pooling.heads=8",
        "model.pooling.queries=2",
        "model.pooling.scorer_scale=0.1",
    ],
}
_PATH = click.Path(path_type=Path)


@click.command(context_settings={"show_default": True})
@click.argument("speech", type=click.Path(path_type=Path, exists=True))
@click.argument("work", type=_PATH)
@click.option("--start", type=_PATH, default=Path("build/pretrained/campplus"), help="Imported network.")
@click.option("--hold-out", is_flag=True, help="Hold out training speakers for dev lists; evaluate only on these.")
@click.option("--name", default="", help="Beginning of the names of the runs, for other OVERRIDES.")
@click.option("--arms", default="own,mqmha", help="Arms to train, separated by commas; empty: the start alone.")
@click.option("--seeds", default="0", help="Seeds, separated by commas.")
@click.option("--shares", default="0,0.5,1", help="Shares of the network before, separated by commas.")
@click.argument("overrides", nargs=-1)
def main(
    speech: Path,
    work: Path,
    start: Path,
    hold_out: bool,
    name: str,
    arms: str,
    seeds: str,
    shares: str,
    overrides: tuple[str, ...],
) -> None:
    """Prepare SPEECH once into WORK, train the arms with OVERRIDES, print and record the table."""
    use_compilation_cache()
    bench = _Bench(speech, work, start, hold_out)
    before = bench.evaluate(start, f"{name}start", {"arm": "before"})
    for arm, seed in itertools.product(filter(None, arms.split(",")), seeds.split(",")):
        run = work / "runs" / f"{bench.kind}_{name}{arm}_{seed}"
        options = [f"start.run={start}", f"data.train={bench.train}", f"train.seed={seed}", *ARMS[arm], *overrides]
        train(load_config("finetune", options), run)
        for share in map(float, shares.split(",")):
            mixed = run.with_name(f"{run.name}_share{share:g}")
            if not mixed.exists():
                average_checkpoints(run, 1, mixed, Towards(start, share))
            about = {"arm": arm, "seed": int(seed), "share": share, "overrides": list(overrides), **_cost(run)}
            bench.evaluate(mixed, mixed.name.removeprefix(f"{bench.kind}_"), about)
    for arm, share in itertools.product(filter(None, arms.split(",")), map(float, shares.split(","))):
        tuned = [bench.results(f"{name}{arm}_{seed}_share{share:g}") for seed in seeds.split(",")]
        click.echo(f"{arm}, share {share:g} against before: {compare_means([before], tuned)}")


class _Bench:
    """Shards, lists and the evaluation of one network on them."""

    def __init__(self, speech: Path, work: Path, start: Path, hold_out: bool) -> None:
        self.kind = "dev" if hold_out else "eval"
        self._work = work
        spec = read_config(start).fbank
        if hold_out:
            split = split_training_speakers(speech, work / "held_out")
            self.train = prepare_shards(speech, work / "held_out" / "shards_train", split.train, spec, augmented=True)
            self._data = [prepare_shards(speech, work / "held_out" / "shards_dev", split.dev, spec)]
            self._lists = list(split.trials.values())
        else:
            self.train = prepare_shards(
                speech, work / "shards_train", speech / "lists" / "train.csv", spec, augmented=True
            )
            lists = dict(eval_lists(speech))
            self._data = [prepare_shards(speech, work / f"shards_{n}", eval_csv(speech, n), spec) for n in lists]
            self._lists = list(lists.values())

    def results(self, name: str) -> Path:
        return self._work / "evaluations" / f"{self.kind}_{name}"

    def evaluate(self, run: Path, name: str, about: dict) -> Path:
        """Evaluates a network unless that is done, records and prints the error rates."""
        output = self.results(name)
        if (output / "metrics.json").exists():
            return output
        evaluation = evaluate_run(run, data=self._data, lists=self._lists, measuring=Measuring(replicates=0))
        write_evaluation(output, evaluation, title=name)
        rates = {part.name.removeprefix("trials_"): part.systems[0].metrics["EER"].value for part in evaluation.lists}
        mean = float(np.mean(list(rates.values())))
        keep("fine_tuning", {"lists": self.kind, "run": name, **about, "eer": rates, "mean_eer": mean})
        click.echo(f"{self.kind} {name}: " + "  ".join(f"{k} {v:.2%}" for k, v in rates.items()) + f"  mean {mean:.2%}")
        return output


def _cost(run: Path) -> dict[str, float]:
    lines = [line for line in read_log(run) if "step" in line]
    return {"step": lines[-1]["step"], "minutes": round((lines[-1]["time"] - lines[0]["time"]) / 60, 1)}


if __name__ == "__main__":
    main()
