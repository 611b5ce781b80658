"""Fine-tunes a published CAM++ on a folder of real speech and measures whether it helped on speakers outside it.

Follows ``configs/finetune.py``: the prototypes start from mean embeddings, batch normalisation stays, and the lower
part is frozen: all below the pooling, or all below the last block (``--learns block``). The frames that the frozen part
gives are computed once (``campplus_tail.py``), so two cores suffice for many settings and seeds. Two arms: the own
pooling of the network with an AM-softmax, and MQMHA with the inter-topK penalty. Each result is moved back towards the
network before by the given shares, as by ``mqmha average --towards``; a share of 1 is that network with the mean of the
training embeddings subtracted.

    make pretrained
    python benchmarks/fine_tuning.py SPEECH WORK --hold-out --arms own --steps 100 --shares 0,0.5    # choose settings
    python benchmarks/fine_tuning.py SPEECH WORK --seeds 0,1,2 --shares 0.5                          # the table

``--hold-out`` evaluates on training speakers that are held out, and on nothing else. Appends every evaluation to
``benchmarks/results/fine_tuning.jsonl``. A second call reuses shards and frames.
"""

import itertools
import time
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np
import optax
from campplus_tail import Frames, cache_frames, embed_frames, tail_of, tail_variables
from held_out_speakers import split_training_speakers, thin_training_list
from mean_over_lists import TrialScores, compare_means, equal_error_rates, speakers_by_utterance
from real_speech import eval_csv, eval_lists, prepare_shards
from record import keep

from mqmha_jax.compilation_cache import use_compilation_cache
from mqmha_jax.config import Config
from mqmha_jax.config_io import load_config
from mqmha_jax.data.lists import read_trials
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.evaluation.metrics.bootstrap import trial_speakers
from mqmha_jax.evaluation.scoring.cosine import cosine_scores
from mqmha_jax.evaluation.scoring.units import centre
from mqmha_jax.losses.build import LossInputs, build_loss
from mqmha_jax.models.speaker_net import SpeakerNet, build_speaker_net
from mqmha_jax.runs.carry_over import carry_over
from mqmha_jax.runs.load_network import LoadedNetwork, load_network
from mqmha_jax.runs.network_run import write_network_run
from mqmha_jax.train import schedules
from mqmha_jax.train.optim import build_optimizer
from mqmha_jax.train.part_rates import leave_out_frozen, part_factors
from mqmha_jax.types import Embeddings

ARMS = {
    "own": ["loss.top_k=0", "loss.penalty=0"],
    "mqmha": [
        "model.pooling=mqmha",
        "model.pooling.heads=8",
        "model.pooling.queries=2",
        "model.pooling.scorer_scale=0.1",
    ],
}
_TRAIN_FRAMES, _EVAL_FRAMES = 400, 1200  # longest part of an utterance that is used
_LAYERS = {"block": "transit2", "pooling": "transit3"}  # learns: the layer behind which everything learns
_SETS = ("arabic_sc30", "dsp34", "wuw2")  # with several recordings per speaker; the others cannot be paired
_PATH = click.Path(path_type=Path)
_MEAN_ROWS = 300  # utterances whose mean embedding is subtracted


@click.command(context_settings={"show_default": True})
@click.argument("speech", type=click.Path(path_type=Path, exists=True))
@click.argument("work", type=_PATH)
@click.option("--start", type=_PATH, default=Path("build/pretrained/campplus"), help="Imported CAM++.")
@click.option("--hold-out", is_flag=True, help="Train without some training speakers; evaluate only on these.")
@click.option("--name", default="", help="What is tried, for the record.")
@click.option("--arms", default="own,mqmha", help="Arms to train, separated by commas.")
@click.option("--seeds", default="0", help="Seeds, separated by commas.")
@click.option("--shares", default="0.5", help="Shares of the network before, separated by commas.")
@click.option("--learns", type=click.Choice(list(_LAYERS)), default="pooling", help="Everything from here on learns.")
@click.option("--steps", default=100, help="Steps of each run.")
@click.option("--crop", default=75, help="Frames of 20 ms per example.")
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
    learns: str,
    steps: int,
    crop: int,
    overrides: tuple[str, ...],
) -> None:
    """Prepare SPEECH once into WORK, train the arms with OVERRIDES, print and record the table."""
    use_compilation_cache()
    bench = Bench(speech, work, load_network(start), hold_out, _LAYERS[learns])
    before = bench.evaluate(bench.tail(None), bench.start_tail, mean=False)
    bench.record(before, arm="before", run=name)
    tuned: dict[tuple[str, float], list[TrialScores]] = {}
    for arm, seed in itertools.product(arms.split(","), map(int, seeds.split(","))):
        options = [f"train.steps={steps}", f"train.seed={seed}", *ARMS[arm], *overrides]
        config = load_config("finetune", options)
        net = bench.tail(config)
        started = time.monotonic()
        first, last, accuracy = train_tail(config, bench, net, crop)
        minutes = round((time.monotonic() - started) / 60, 2)
        for share in map(float, shares.split(",")):
            mixed = jax.tree.map(lambda one, other, s=share: s * one + (1 - s) * other, first, last)
            found = bench.evaluate(net, mixed, mean=True)
            tuned.setdefault((arm, share), []).append(found)
            about = {"learns": learns, "steps": steps, "crop": crop, "overrides": list(overrides), "minutes": minutes}
            bench.record(found, run=name, arm=arm, seed=seed, share=share, accuracy=accuracy, **about)
            if not hold_out:
                _write_run(bench, config, mixed, work / "runs" / f"{name}{arm}_{seed}_share{share:g}", steps)
    for (arm, share), scores in tuned.items():
        click.echo(f"{arm}, share {share:g}, against before: {compare_means([before], scores, bench.lists)}")
    for share in map(float, shares.split(",")):
        if {("own", share), ("mqmha", share)} <= tuned.keys():
            compared = compare_means(tuned["own", share], tuned["mqmha", share], bench.lists)
            click.echo(f"mqmha against own, share {share:g}: {compared}")


class Bench:
    """Frames, lists and the evaluation of a network on them."""

    def __init__(self, speech: Path, work: Path, start: LoadedNetwork, hold_out: bool, layer: str) -> None:
        self.start, self.hold_out, self._layer = start, hold_out, layer
        self._scores = work / "scores"
        self.start_tail = tail_variables(start.variables, layer)
        spec = start.config.fbank
        work.mkdir(parents=True, exist_ok=True)
        thin = thin_training_list(speech, work / "train_thin.csv")
        shards = open_shards(prepare_shards(speech, work / "shards_train", thin, spec))
        frames = cache_frames(start, shards, work / "frames_train", layer, max_frames=_TRAIN_FRAMES)
        speaker = [shards.speakers[i] for i in shards.speaker]
        utt2spk = dict(zip(frames.ids, speaker, strict=True))
        self._evaluated: dict[str, tuple[Frames, Path]] = {}
        if hold_out:
            split = split_training_speakers(speech, work / "held_out")
            self._evaluated = {name: (frames, split.trials[name]) for name in _SETS}
            held_out = {row.split(",")[1] for row in split.dev.read_text().splitlines()[1:]}
        else:
            held_out = set()
            for name, path in eval_lists(speech):
                listed = open_shards(prepare_shards(speech, work / f"shards_{name}", eval_csv(speech, name), spec))
                own = cache_frames(start, listed, work / f"frames_{name}", layer, max_frames=_EVAL_FRAMES)
                utt2spk |= speakers_by_utterance(listed)
                self._evaluated[name] = (own, path)
        trials = {name: read_trials(path) for name, (_, path) in self._evaluated.items()}
        self.lists = {name: (listed.target, *trial_speakers(listed, utt2spk)) for name, listed in trials.items()}
        self._trials = trials
        self.frames = frames
        self.rows = np.array([i for i, name in enumerate(speaker) if name not in held_out])
        self.speakers = sorted({speaker[i] for i in self.rows})
        self.speaker = np.array([self.speakers.index(speaker[i]) for i in self.rows], np.int32)
        self.start_embeddings = embed_frames(self.tail(None), self.start_tail, frames, self.rows)

    def tail(self, config: Config | None) -> SpeakerNet:
        """The tail network with the pooling of a configuration; None: that of the start."""
        model = self.start.config.model if config is None else config.model
        return tail_of(build_speaker_net(model), self._layer)

    def evaluate(self, net: SpeakerNet, variables: Any, *, mean: bool, max_frames: int = _EVAL_FRAMES) -> TrialScores:
        """Scores of every list, with utterances cut to ``max_frames``."""
        spread = self.rows[np.linspace(0, len(self.rows) - 1, _MEAN_ROWS).astype(int)]
        middle = embed_frames(net, variables, self.frames, spread).mean(axis=0) if mean else None
        scores = {}
        for name, (frames, _) in self._evaluated.items():
            trials = self._trials[name]
            wanted = {*trials.enrol, *trials.test}
            rows = [i for i, utterance in enumerate(frames.ids) if utterance in wanted]
            vectors = embed_frames(net, variables, frames, rows, max_frames=max_frames)
            embedded = Embeddings(tuple(frames.ids[i] for i in rows), vectors)
            scores[name] = np.asarray(cosine_scores(centre(embedded, middle), trials))
        return scores

    def record(self, scores: TrialScores, **about: Any) -> None:
        rates = equal_error_rates(scores, self.lists)
        mean = float(np.mean(list(rates.values())))
        self._scores.mkdir(exist_ok=True)
        kind = "dev" if self.hold_out else "eval"
        names = [
            kind,
            *(str(about[key]) for key in ("run", "learns", "arm", "seed", "share") if about.get(key, "") != ""),
        ]
        np.savez(self._scores / f"{'_'.join(names)}.npz", **dict[str, Any](scores))
        keep("fine_tuning", {"lists": kind, **about, "eer": rates, "mean_eer": mean})
        shown = "  ".join(f"{name} {rate:.2%}" for name, rate in rates.items())
        click.echo(f"{' '.join(f'{k}={v}' for k, v in about.items() if k != 'overrides')}: {shown}  mean {mean:.2%}")


def train_tail(
    config: Config, bench: Bench, net: SpeakerNet, crop: int, *, from_scratch: bool = False
) -> tuple[Any, Any, float]:
    """Trains the tail; returns its variables before and after, and the last training accuracy.

    Args:
      config: options of the network, the loss and the optimizer.
      bench: the training data.
      net: the tail.
      crop: frames of an example.
      from_scratch: pooling, embedding layer and prototypes start at random; else as in fine-tuning.
    """
    key = jax.random.key(config.train.seed)
    shape = jnp.zeros((1, crop, 512)), jnp.ones((1, crop), bool)
    fresh = jax.jit(net.init, static_argnames="train")(key, *shape, train=False)
    if from_scratch:
        first = {name: {**tree, "encoder": bench.start_tail[name]["encoder"]} for name, tree in fresh.items()}
    else:
        first = carry_over(bench.start_tail, bench.start.net.pooling, fresh, Path("the start"), advice="").variables
    loss = build_loss(config.loss, num_speakers=len(bench.speakers), embedding_dim=net.embedding_dim)
    head = loss.init(key)
    if not from_scratch:
        head["prototypes"] = head["prototypes"].at[: len(bench.speakers), 0].set(_means(bench))
    optimizer = build_optimizer(config.optimizer, config.train.steps)
    rate = schedules.learning_rate(config.optimizer, config.train.steps)
    progress = schedules.margin_progress(config.loss, config.train.steps)
    statistics = first["batch_stats"]

    def mean_loss(params: Any, frames: Any, mask: Any, speaker: Any, share: Any) -> tuple[Any, Any]:
        variables = {"params": params["net"], "batch_stats": statistics}
        embedding = net.apply(variables, frames.astype(jnp.float32), mask, train=False)
        inputs = LossInputs(embedding=embedding, speaker=speaker)
        margin, penalty = share * config.loss.margin, share * config.loss.penalty
        values, measured, _ = loss.apply(params["head"], loss.initial_state, inputs, margin=margin, penalty=penalty)
        return values.mean(), measured["accuracy"].mean()

    @jax.jit
    def step(params: Any, state: Any, number: Any, *batch: Any) -> tuple[Any, Any, Any]:
        (_, accuracy), gradients = jax.value_and_grad(mean_loss, has_aux=True)(params, *batch, progress(number))
        factors = part_factors(params, config.optimizer, number, config.train.steps)
        gradients = leave_out_frozen(gradients, factors)
        directions, state = optimizer.update(gradients, state, params, step=number)
        moved = jax.tree.map(lambda d, factor: -rate(number) * factor * d, directions, factors)
        return optax.apply_updates(params, moved), state, accuracy

    params = {"net": first["params"], "head": head}
    state, accuracies = optimizer.init(params), []
    rng = np.random.default_rng(config.train.seed)
    order = np.concatenate([rng.permutation(len(bench.rows)) for _ in range(_epochs(config, bench))])
    for number in range(config.train.steps):
        chosen = order[number * config.data.batch_size :][: config.data.batch_size]
        frames, mask = _crops(bench.frames, bench.rows[chosen], crop, rng)
        params, state, accuracy = step(params, state, number, frames, mask, bench.speaker[chosen])
        accuracies.append(float(accuracy))
    last = {"params": params["net"], "batch_stats": statistics}
    return first, last, round(float(np.mean(accuracies[-10:])), 3)


def _epochs(config: Config, bench: Bench) -> int:
    return config.train.steps * config.data.batch_size // len(bench.rows) + 1


def _means(bench: Bench) -> np.ndarray:
    """The mean direction of each training speaker, by the network before."""
    units = bench.start_embeddings / np.linalg.norm(bench.start_embeddings, axis=1, keepdims=True)
    sums = np.zeros((len(bench.speakers), units.shape[1]), np.float32)
    np.add.at(sums, bench.speaker, units)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def _crops(frames: Frames, rows: np.ndarray, crop: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random crops ``[B,crop,512]``; shorter utterances are padded under the mask ``[B,crop]``."""
    values, mask = np.zeros((len(rows), crop, 512), np.float16), np.zeros((len(rows), crop), bool)
    for k, row in enumerate(rows):
        own = frames.of(int(row))
        start = rng.integers(max(len(own) - crop, 0) + 1)
        part = own[start : start + crop]
        values[k, : len(part)], mask[k, : len(part)] = part, True
    return values, mask


def _write_run(bench: Bench, config: Config, tail: Any, output: Path, steps: int) -> None:
    """The whole network as a run, for ``mqmha evaluate``, ``export`` and users."""
    if output.exists():
        return
    whole = {
        name: {**tail[name], "encoder": {**tree["encoder"], **tail[name]["encoder"]}}
        for name, tree in bench.start.variables.items()
    }
    write_network_run(output, config, {"tuned": "benchmarks/fine_tuning.py"}, whole, head={}, step=steps)


if __name__ == "__main__":
    main()
