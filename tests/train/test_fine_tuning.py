"""Fine-tuning: prototypes from means, rates by part, frozen parts, kept normalisation, parts that are new."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.config import Config, OptimizerConfig
from mqmha_jax.config_io import with_overrides
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.errors import UserError
from mqmha_jax.inference import SpeakerEncoder
from mqmha_jax.models import unit_length
from mqmha_jax.parallel import device_mesh
from mqmha_jax.runs.average import Towards, average_checkpoints
from mqmha_jax.runs.load_network import load_network
from mqmha_jax.train.build import build_training
from mqmha_jax.train.loop import train
from mqmha_jax.train.optim import build_optimizer
from mqmha_jax.train.part_rates import check_parts, leave_out_frozen, part_factors
from mqmha_jax.train.speaker_means import speaker_means
from tests.support.runs import read_arrays
from tests.support.tiny import tiny_config, tiny_corpus

SPEAKERS = 8


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    data = tiny_corpus(tmp_path_factory.mktemp("corpus"))
    options = ["optimizer.name=sgd", "optimizer.momentum=0", "optimizer.warmup=0", "optimizer.schedule=constant"]
    return with_overrides(tiny_config({"train": data["train"]}, steps=2), options)


@pytest.fixture(scope="module")
def base(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "base"
    train(config, workdir, progress=False)
    return workdir


def arrays_of(workdir: Path) -> dict[str, np.ndarray]:
    return {name: value for name, value in read_arrays(workdir).items() if "opt_state" not in name}


def moved(before: Path, after: Path, part: str) -> float:
    """How far the parameters of a part are from those of another run."""
    one, other = arrays_of(before), arrays_of(after)
    names = [name for name in one if "['params']" in name and f"['{part}']" in name]
    assert names
    return max(float(np.abs(one[name] - other[name]).max()) for name in names)


def test_prototypes_start_from_the_mean_embedding_of_each_speaker(
    config: Config, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"start.run={base}", "start.head=means", "optimizer.learning_rate=1e-20", "train.steps=1"]
    train(with_overrides(config, options), tmp_path / "tuned")
    assert f"Loaded the network of {base}, step 2." in capsys.readouterr().out
    found = arrays_of(tmp_path / "tuned")["['head']['prototypes']"][:SPEAKERS]
    network, shards = load_network(base), open_shards(config.data.train)
    means = speaker_means(network.net, network.variables, shards, None)
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 1, rtol=1e-5)
    # The slow form: every utterance by itself, embedded as inference does.
    encoder = SpeakerEncoder.load(base)
    for speaker in (5,):
        rows = np.flatnonzero(shards.speaker == speaker)
        frames = [shards.crop(int(i), 0, int(shards.num_frames[i])).astype(np.float32) for i in rows]
        units = [_embed_frames(encoder, x) for x in frames]
        direction = np.sum(units, axis=0)
        np.testing.assert_allclose(means[speaker], direction / np.linalg.norm(direction), atol=1e-5)
    cosines = np.einsum("ske,se->sk", np.asarray(unit_length(jnp.asarray(found))), means)
    assert cosines.min() > 0.8  # two sub-centres lie around each mean
    assert not np.allclose(found[:, 0], found[:, 1])


def _embed_frames(encoder: SpeakerEncoder, frames: np.ndarray) -> np.ndarray:
    net, variables, _ = encoder._embedder
    centred = jnp.asarray(frames - frames.mean(axis=0))[None]
    apply = jax.jit(functools.partial(net.apply, train=False))
    vector = np.asarray(apply(variables, centred, jnp.ones(centred.shape[:2], bool))[0])
    return vector / np.linalg.norm(vector)


def test_rates_scale_the_update_of_their_part(config: Config, base: Path, tmp_path: Path) -> None:
    once = with_overrides(config, [f"start.run={base}", "train.steps=1"])
    train(once, tmp_path / "whole", progress=False)
    slower = ["optimizer.rates.net/encoder=0.5", "optimizer.rates.net/encoder/layer2=0"]
    train(with_overrides(once, slower), tmp_path / "slower", progress=False)
    start, whole, scaled = (arrays_of(path) for path in (base, tmp_path / "whole", tmp_path / "slower"))
    for name in start:
        if "['params']" not in name:
            continue
        factor = 0 if "['layer2']" in name else 0.5 if "['encoder']" in name else 1
        change, expected = scaled[name] - start[name], factor * (whole[name] - start[name])
        np.testing.assert_allclose(change, expected, rtol=1e-3, atol=1e-6, err_msg=name)


def test_frozen_parts_stay_until_they_are_unfrozen(config: Config, base: Path, tmp_path: Path) -> None:
    options = [f"start.run={base}", 'optimizer.frozen=["net/encoder"]', "start.batch_norm=keep"]
    frozen = with_overrides(config, options)
    train(frozen, tmp_path / "frozen", progress=False)
    assert moved(base, tmp_path / "frozen", "encoder") == 0
    assert moved(base, tmp_path / "frozen", "embedding") > 0
    one, other = arrays_of(base), arrays_of(tmp_path / "frozen")
    statistics = [name for name in one if "batch_stats" in name]
    assert statistics
    for name in statistics:
        np.testing.assert_array_equal(one[name], other[name])
    train(with_overrides(frozen, ["optimizer.unfreeze_after=0.5"]), tmp_path / "later", progress=False)
    assert moved(base, tmp_path / "later", "encoder") > 0


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_part_that_thaws_starts_like_a_new_one_and_disturbs_no_other_before(name: str) -> None:
    """Gradients of a frozen part, however large, use no share of the limit and leave no momentum."""

    def follow(config: OptimizerConfig, first: int) -> list[dict]:
        params = {"net": {"kernel": jnp.ones((2, 2))}, "head": {"prototypes": jnp.ones((3, 1, 2))}}
        gradients = {"net": {"kernel": jnp.full((2, 2), 25.0)}, "head": {"prototypes": jnp.full((3, 1, 2), 0.1)}}
        optimizer, directions = build_optimizer(config, 20), []
        state = optimizer.init(params)
        for step in range(first, 20):
            factors = part_factors(params, config, jnp.asarray(step), 20)
            kept = leave_out_frozen(gradients, factors)
            found, state = optimizer.update(kept, state, params, step=jnp.asarray(step))
            directions.append(jax.tree.map(lambda one, factor: factor * one, found, factors))
        return directions

    config = OptimizerConfig(name=name, momentum=0.9, weight_decay=0.1, max_gradient_norm=1.0, frozen=("net",))
    always, later = follow(config, 0), follow(dataclasses.replace(config, unfreeze_after=0.5), 0)
    never = follow(dataclasses.replace(config, frozen=()), 10)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), later[:10], always[:10])
    # The head, which has learnt before, has its momentum; the net is where a new one would be.
    for one, other in zip(later[10:], never, strict=True):
        np.testing.assert_allclose(one["net"]["kernel"], other["net"]["kernel"], rtol=1e-6)


def test_the_factor_follows_the_longest_path_and_the_step() -> None:
    params = {"net": {"encoder": {"stem": {"kernel": 0}, "stem2": {"kernel": 0}}, "pooling": {"kernel": 0}}}
    config = OptimizerConfig(
        rates={"net": 0.5, "net/encoder/stem": 0.1}, frozen=("net/encoder/stem",), unfreeze_after=0.5
    )
    before, after = (part_factors(params, config, jnp.asarray(step), 10) for step in (4, 5))
    encoder, stem = before["net"]["encoder"], after["net"]["encoder"]["stem"]
    assert (float(encoder["stem"]["kernel"]), encoder["stem2"]["kernel"]) == (0, 0.5)
    assert float(stem["kernel"]) == pytest.approx(0.1)
    assert before["net"]["pooling"]["kernel"] == 0.5
    some = part_factors(params, OptimizerConfig(rates={"net/encoder/stem[1-9]": 0.3, "net/p*": 0.2}), jnp.asarray(0), 1)
    assert some["net"]["encoder"]["stem2"]["kernel"] == 0.3
    assert (some["net"]["encoder"]["stem"]["kernel"], some["net"]["pooling"]["kernel"]) == (1, 0.2)


def test_a_part_that_the_other_run_lacks_starts_at_random(
    config: Config, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"start.run={base}", "start.head=fresh", "model.pooling=tstp", "optimizer.learning_rate=1e-20"]
    train(with_overrides(config, options), tmp_path / "tuned")
    said = capsys.readouterr().out
    assert f"Loaded the network of {base}, step 2; new, from random values: embedding, pooled_norm." in said
    assert moved(base, tmp_path / "tuned", "encoder") < 1e-15


def test_what_does_not_go_together_is_refused(config: Config, base: Path, tmp_path: Path) -> None:
    means = with_overrides(config, [f"start.run={base}", "start.head=means", "model.pooling=tstp"])
    with pytest.raises(UserError, match=r"start\.head=means embeds .* starts at random; use start\.head=fresh"):
        train(means, tmp_path / "tuned", progress=False)
    for option, message in [
        ("optimizer.rates.net/encodr=0.1", r"optimizer\.rates names 'net/encodr'.*Parts of this run: .*net/encoder"),
        ('optimizer.frozen=["net/enc"]', r"optimizer\.frozen names 'net/enc'"),
        ('optimizer.frozen=["net","head"]', "name all parameters, so nothing learns"),
        ('optimizer.rates={"net":0,"head":0}', "name all parameters, so nothing learns"),
        ("optimizer.unfreeze_after=0.5", r"unfreezes the parts in optimizer\.frozen, which names none"),
        ("start.head=means", r"start\.run names none; set start\.run=RUN"),
    ]:
        with pytest.raises(UserError, match=message):
            train(with_overrides(config, [option]), tmp_path / "other", progress=False)
    shapes = build_training(config, num_speakers=SPEAKERS, mesh=device_mesh(config.mesh)).state.params
    check_parts(shapes, OptimizerConfig(frozen=("net", "head"), unfreeze_after=0.2))
    assert jax.tree.leaves(shapes)


@pytest.fixture(scope="module")
def statistics(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose pooling is plain statistics."""
    workdir = tmp_path_factory.mktemp("runs") / "statistics"
    train(with_overrides(config, ["model.pooling=tstp", "model.pooling.unbiased=false"]), workdir, progress=False)
    return workdir


@pytest.mark.slow
def test_attention_in_place_of_statistics_starts_from_the_same_embeddings(
    config: Config, statistics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attention = ["model.pooling.heads=2", "model.pooling.queries=3", "model.pooling.scorer_scale=0"]
    still = [f"start.run={statistics}", "start.head=means", "optimizer.learning_rate=1e-20", "train.steps=1"]
    train(with_overrides(config, [*attention, *still, "start.batch_norm=keep"]), tmp_path / "tuned")
    said = capsys.readouterr().out
    assert "new, from random values: pooling; the layer behind its statistics now reads those of every query." in said
    batch = jax.random.normal(jax.random.key(0), (3, 40, 8))
    mask = jnp.arange(40)[None] < jnp.array([[40], [25], [7]])
    before, after = (
        run.net.apply(run.variables, batch, mask, train=False)
        for run in (load_network(statistics), load_network(tmp_path / "tuned"))
    )
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_average_moves_towards_the_run_before(config: Config, base: Path, statistics: Path, tmp_path: Path) -> None:
    train(with_overrides(config, [f"start.run={base}", "train.steps=1"]), tmp_path / "tuned", progress=False)
    average_checkpoints(tmp_path / "tuned", 1, tmp_path / "mean", Towards(base, 0.25))
    one, tuned, mean = (load_network(path).variables for path in (base, tmp_path / "tuned", tmp_path / "mean"))
    expected = jax.tree.map(lambda one, tuned: 0.25 * one + 0.75 * tuned, one, tuned)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), mean, expected)
    # Statistics have no scorers, so those of the run stay; the layer behind moves.
    average_checkpoints(base, 1, tmp_path / "mixed", Towards(statistics, 0.5))
    mixed = load_network(tmp_path / "mixed").variables["params"]
    np.testing.assert_array_equal(mixed["pooling"]["score"]["kernel"], one["params"]["pooling"]["score"]["kernel"])
    assert not np.allclose(mixed["embedding"]["kernel"], one["params"]["embedding"]["kernel"])
    other = with_overrides(config, ["model.encoder.channels=5"])
    train(other, tmp_path / "other", progress=False)
    with pytest.raises(UserError, match=r"The encoder of .*base has another architecture"):
        average_checkpoints(tmp_path / "other", 1, tmp_path / "never", Towards(base, 0.5))
