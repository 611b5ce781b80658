"""A run that starts from another: base, then fine-tuning with folded classes; and the average of checkpoints."""

import dataclasses
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from data_prep.trials import make_trials, write_trials
from mqmha_jax.config import Config
from mqmha_jax.config_io import with_overrides
from mqmha_jax.data.joined_shards import open_training_shards
from mqmha_jax.data.shard_format import SPEED_MARK
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.shard_writer import UtteranceFbank, shard_writer
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.embed import Embedder
from mqmha_jax.evaluation.embeddings.training_mean import compute_training_mean, load_mean
from mqmha_jax.evaluation.evaluate_lists import evaluate_run
from mqmha_jax.models.speaker_net import fold_for_inference
from mqmha_jax.parallel import device_mesh, place_seed
from mqmha_jax.runs.average import average_checkpoints
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.load_network import load_network
from mqmha_jax.runs.state import TrainState
from mqmha_jax.train.build import Training, build_training
from mqmha_jax.train.loop import train
from mqmha_jax.train.start import initialize_from_run
from tests.support.jobs import run_job
from tests.support.runs import read_arrays
from tests.support.tiny import SPEC, tiny_config

SPEAKERS = 6


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speakers s0 to s5 and each of them at another speed, in the order in which the preparation writes classes."""
    directory, rng = tmp_path_factory.mktemp("data") / "train", np.random.default_rng(0)
    order = {"speaker_key": lambda name: (SPEED_MARK in name, name)}
    with shard_writer(directory, spec=SPEC, provenance={"corpus": "tiny"}, **order) as writer:
        for name in [f"s{i}{speed}" for i in range(SPEAKERS) for speed in ("", f"{SPEED_MARK}0.9")]:
            for utterance in range(3):
                frames = rng.normal(size=(40, 8)).astype(np.float16)
                writer.add(UtteranceFbank(f"{name}/u{utterance}", name, frames))
    return directory


@pytest.fixture(scope="module")
def config(shards: Path) -> Config:
    options = ["train.steps=4", "train.checkpoint_every=1", "train.keep_checkpoints=4", "loss.top_k=1"]
    return with_overrides(tiny_config({"train": str(shards)}), options)


@pytest.fixture(scope="module")
def base(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "base"
    train(config, workdir, progress=False)
    return workdir


@pytest.fixture(scope="module")
def folded(config: Config, base: Path) -> Config:
    """Fine-tuning: original speed only, larger margin, no penalty, from the base."""
    options = ["data.original_speed_only=true", "loss.margin=0.5", "loss.top_k=0", f"start.run={base}"]
    return with_overrides(config, options)


@pytest.fixture(scope="module")
def fresh(folded: Config) -> tuple[Training, TrainState]:
    training = build_training(folded, num_speakers=SPEAKERS, mesh=device_mesh(folded.mesh))
    return training, training.init(place_seed(0, training.mesh))


def start(config: Config, fresh: tuple[Training, TrainState], **changes: object) -> TrainState:
    speakers = open_shards(config.data.train, original_speed_only=True).speakers
    return initialize_from_run(fresh[1], dataclasses.replace(config.start, **changes), speakers, no_means)


def no_means(_: object) -> np.ndarray:
    pytest.fail("only start.head=means embeds the training speakers")


def prototypes(state: TrainState) -> np.ndarray:
    return np.asarray(state.params["head"]["prototypes"])


def test_the_speakers_at_their_own_speed_keep_their_prototypes(
    folded: Config, base: Path, fresh: tuple[Training, TrainState]
) -> None:
    state = start(folded, fresh)
    arrays = read_arrays(base)
    old = arrays["['head']['prototypes']"]
    np.testing.assert_array_equal(prototypes(state)[:SPEAKERS], old[:SPEAKERS])  # original speed comes first
    assert np.abs(old[SPEAKERS : 2 * SPEAKERS]).max() > 0
    assert np.abs(prototypes(state)[SPEAKERS:]).max() == 0  # rows that pad the classes
    for path, leaf in jax.tree_util.tree_leaves_with_path({"params": state.params["net"]}):
        np.testing.assert_array_equal(leaf, arrays[f"['network']{jax.tree_util.keystr(path)}"])
    assert int(state.step) == 0
    assert all(np.abs(leaf).max() == 0 for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)


def test_prototypes_find_their_speaker_by_name(folded: Config, base: Path, fresh: tuple[Training, TrainState]) -> None:
    others = ("s5", "new", "s0", "s2", "other", "s1")
    state = initialize_from_run(fresh[1], folded.start, others, no_means)
    old, drawn = read_arrays(base)["['head']['prototypes']"], prototypes(fresh[1])
    for row, name in enumerate(others):
        expected = old[int(name[1:])] if name in {f"s{i}" for i in range(SPEAKERS)} else drawn[row]
        np.testing.assert_array_equal(prototypes(state)[row], expected)


def test_a_fresh_head_takes_the_network_alone(folded: Config, base: Path, fresh: tuple[Training, TrainState]) -> None:
    state = start(folded, fresh, head="fresh")
    np.testing.assert_array_equal(prototypes(state), prototypes(fresh[1]))
    kernel = read_arrays(base)["['network']['params']['embedding']['kernel']"]
    np.testing.assert_array_equal(state.params["net"]["embedding"]["kernel"], kernel)


def test_an_earlier_checkpoint_can_be_the_start(folded: Config, base: Path, fresh: tuple[Training, TrainState]) -> None:
    state = start(folded, fresh, step=2)
    kernel = load_network(base, 2).variables["params"]["embedding"]["kernel"]
    np.testing.assert_array_equal(state.params["net"]["embedding"]["kernel"], kernel)
    with pytest.raises(UserError, match=r"No checkpoint of step 9 in .*; available steps: \[1, 2, 3, 4\]"):
        start(folded, fresh, step=9)


def test_network_and_prototypes_are_of_one_step_while_that_run_trains_on(
    folded: Config, base: Path, fresh: tuple[Training, TrainState], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(base, tmp_path / "run")
    restore = Checkpoints.restore_network

    def restore_and_remove(reader: Checkpoints, *arguments: object) -> object:
        answer = restore(reader, *arguments)
        with Checkpoints(tmp_path / "run", keep=1) as training:
            training.wait()
        return answer

    monkeypatch.setattr(Checkpoints, "restore_network", restore_and_remove)
    state = start(folded, fresh, run=str(tmp_path / "run"), step=2)
    with Checkpoints(base) as checkpoints:
        expected = checkpoints.restore_head(2)[0]["prototypes"]
    np.testing.assert_array_equal(prototypes(state)[:SPEAKERS], expected[:SPEAKERS])
    average_checkpoints(shutil.copytree(base, tmp_path / "other"), 3, tmp_path / "mean")


def test_a_start_that_does_not_fit_is_refused(
    folded: Config, base: Path, fresh: tuple[Training, TrainState], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"is not a work directory"):
        start(folded, fresh, run=str(tmp_path))
    with pytest.raises(UserError, match=r"None of the 2 speakers is a speaker of .*'x'.*start\.head=fresh"):
        initialize_from_run(fresh[1], folded.start, ("x", "y"), no_means)
    for option, message in [
        ("loss.sub_centres=1", r"\(sub-centres, dimension\) \(2, 6\), this run's \(1, 6\).*start\.head=fresh"),
        ("model.embedding_dim=7", r"\(sub-centres, dimension\) \(2, 6\), this run's \(2, 7\)"),
        ("model.encoder.channels=8", r"encoder of .* another architecture: encoder/layer1/.* \(8,\) here and \(16,\)"),
    ]:
        other = with_overrides(folded, [option])
        training = build_training(other, num_speakers=SPEAKERS, mesh=device_mesh(other.mesh))
        state = training.init(place_seed(0, training.mesh))
        with pytest.raises(UserError, match=message):
            initialize_from_run(state, other.start, tuple(f"s{i}" for i in range(SPEAKERS)), no_means)
    (base / "speakers.json").rename(tmp_path / "speakers.json")
    (base / "speakers.json").write_text("{}")
    with pytest.raises(UserError, match=r"Restore it from a copy.*Use start\.head=fresh or start\.head=means to st"):
        start(folded, fresh)
    (base / "speakers.json").unlink()
    try:
        with pytest.raises(UserError, match=r"does not name its speakers.*Use start\.head=fresh"):
            start(folded, fresh)
    finally:
        (tmp_path / "speakers.json").rename(base / "speakers.json")


def test_a_start_that_fits_in_shape_and_computes_something_else_is_named(
    folded: Config, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(with_overrides(folded, ["model.encoder.dilations=[2,1]", "train.steps=1"]), tmp_path / "run", progress=False)
    assert f"The values of {base} fit in shape" in caplog.text
    assert "(there -> here): model.encoder.dilations: (1, 1) -> (2, 1). So" in caplog.text


def test_a_stage_runs_and_resumes_without_its_start(folded: Config, base: Path, tmp_path: Path) -> None:
    """The second stage needs the first one only for its first step."""
    moved = shutil.copytree(base, tmp_path / "base")
    stage = with_overrides(folded, [f"start.run={moved}"])
    train(stage, tmp_path / "stage", progress=False)
    shutil.rmtree(moved)
    assert train(stage, tmp_path / "stage", progress=False).finished
    (tmp_path / "stage" / "checkpoints" / "4").rename(tmp_path / "removed")
    assert train(stage, tmp_path / "stage", progress=False).finished
    assert read_arrays(tmp_path / "stage")["['head']['prototypes']"].shape[0] == 256


def test_a_start_may_move_but_not_become_another(
    config: Config, folded: Config, base: Path, shards: Path, tmp_path: Path
) -> None:
    stage, workdir = with_overrides(folded, ["train.steps=1"]), tmp_path / "stage"
    train(stage, workdir, progress=False)
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(base, moved)
    train(with_overrides(config, ["train.seed=1"]), other, progress=False)
    assert train(with_overrides(stage, [f"start.run={moved}"]), workdir, progress=False).trained == 0
    for changed, said in ((other, f"not from {other}"), (tmp_path, f"not from {tmp_path}"), ("", "not from random")):
        with pytest.raises(UserError, match=rf"started from {moved}, {said}.* Give start\.run={moved} to resume"):
            train(with_overrides(stage, [f"start.run={changed}"]), workdir, progress=False)
    with pytest.raises(UserError, match=r"started from random values, not from .*\. Leave out start\.run to resume"):
        train(with_overrides(config, ["train.seed=1", f"start.run={base}"]), other, progress=False)


def test_a_start_that_goes_on_training_stays_the_start(config: Config, folded: Config, tmp_path: Path) -> None:
    first, workdir = tmp_path / "first", tmp_path / "stage"
    train(with_overrides(config, ["train.steps=1"]), first, progress=False)
    stage = with_overrides(folded, [f"start.run={first}", "train.steps=1"])
    train(stage, workdir, progress=False)
    train(with_overrides(config, ["train.steps=2"]), first, progress=False)
    moved = first.rename(tmp_path / "moved")
    for place in (first, moved):
        assert train(with_overrides(stage, [f"start.run={place}"]), workdir, progress=False).trained == 0


def test_a_start_that_fails_leaves_the_directory_free(config: Config, folded: Config, tmp_path: Path) -> None:
    wrong = with_overrides(folded, [f"start.run={tmp_path / 'nothing'}"])
    with pytest.raises(UserError, match=r"nothing is not a work directory"):
        train(wrong, tmp_path / "stage", progress=False)
    assert train(config, tmp_path / "stage", progress=False).finished


@pytest.mark.slow
def test_two_processes_start_as_one(folded: Config, tmp_path: Path) -> None:
    gentle = with_overrides(folded, ["optimizer.name=sgd", "optimizer.learning_rate=0.0001", "mesh.model=2"])
    for processes in (1, 2):
        run_job(gentle, tmp_path / str(processes), processes=processes)
    one, two = (read_arrays(tmp_path / str(processes)) for processes in (1, 2))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=2e-5, err_msg=name)


def test_the_average_is_the_mean_of_the_last_checkpoints(base: Path, tmp_path: Path) -> None:
    assert average_checkpoints(base, 3, tmp_path / "mean") == [2, 3, 4]
    averaged = load_network(tmp_path / "mean")
    assert averaged.step == 4
    with Checkpoints(base) as checkpoints:
        heads = [checkpoints.restore_head(step)[0]["prototypes"] for step in (2, 3, 4)]
    with Checkpoints(tmp_path / "mean") as checkpoints:
        head = checkpoints.restore_head()[0]["prototypes"]
    np.testing.assert_allclose(head, np.mean(heads, axis=0), rtol=1e-6, atol=1e-7)
    trees = [load_network(base, step).variables for step in (2, 3, 4)]
    expected = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *trees)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), averaged.variables, expected)


def test_an_average_can_be_started_from_but_not_resumed(
    config: Config, folded: Config, base: Path, fresh: tuple[Training, TrainState], tmp_path: Path
) -> None:
    average_checkpoints(base, 2, tmp_path / "mean")
    state = start(folded, fresh, run=str(tmp_path / "mean"))
    assert np.abs(prototypes(state)[:SPEAKERS]).max() > 0
    with pytest.raises(UserError, match=r"holds no training: it is not a checkpoint of a training run"):
        train(config, tmp_path / "mean", progress=False)


def test_an_average_that_can_not_be_made_is_refused(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"has 4 checkpoints, not 5; train\.keep_checkpoints says how many"):
        average_checkpoints(base, 5, tmp_path / "mean")
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match=r"there already exists"):
        average_checkpoints(base, 2, tmp_path / "there")
    # A call that was killed leaves a directory that the next one does not mind.
    (tmp_path / ".partial-0badf00d-mean" / "checkpoints" / "4").mkdir(parents=True)

    def full(source: Path, target: Path) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(UserError, match=r"mean cannot be written .No space left on device"):
            average_checkpoints(base, 2, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
    average_checkpoints(base, 2, tmp_path / "mean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mean", "there"]


def test_evaluation_subtracts_the_mean_of_the_recordings_that_the_run_learns_from(
    folded: Config, shards: Path, tmp_path: Path
) -> None:
    """As the dev list does; or the best step by its EER would be another one than by ``mqmha evaluate``."""
    train(folded, tmp_path / "run", progress=False)
    utterances = open_shards(shards, original_speed_only=True)
    speakers = [utterances.speakers[i] for i in utterances.speaker]
    trials = make_trials(dict(zip(utterances.utterances, speakers, strict=True)))
    write_trials(tmp_path / "list", trials)
    evaluate_run(tmp_path / "run", data=[shards], lists=[tmp_path / "list"], progress=False)
    network = load_network(tmp_path / "run", 4)
    embedder = Embedder(*fold_for_inference(network.net, network.variables))
    expected = compute_training_mean(embedder, open_training_shards(folded.data))
    kept = load_mean(tmp_path / "run", 4, folded.model.embedding_dim)
    np.testing.assert_allclose(kept, expected, atol=1e-6)
