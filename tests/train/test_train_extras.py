"""A real run beside its steps: skipped steps, stalls, plateaus, the best checkpoint, the moving average."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqmha_jax.config import Config
from mqmha_jax.config_io import with_overrides
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.dev_list import DevList
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.load_network import load_network
from mqmha_jax.runs.log_lines import read_log
from mqmha_jax.runs.metrics_log import MetricsLog
from mqmha_jax.runs.state import TrainState
from mqmha_jax.train.loop import train
from mqmha_jax.train.watchdog import Watchdog
from tests.support.batches import change_batches
from tests.support.best_step import find_best_step
from tests.support.runs import assert_same_run, read_arrays
from tests.support.tiny import tiny_config, tiny_corpus

STEPS = 12

# The scripted dev EERs after steps 0, 2, ..., 12: best after step 6.
EERS = (0.5, 0.3, 0.4, 0.2, 0.25, 0.3, 0.28)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    data = tiny_corpus(tmp_path_factory.mktemp("corpus"))
    options = ["optimizer.schedule=plateau", "optimizer.plateau_patience=0", "optimizer.ema=0.9", "optimizer.warmup=0"]
    options += ["train.evaluate_every=2", "train.keep_checkpoints=1", "train.max_skipped_in_row=3"]
    return with_overrides(tiny_config(data), options)


class Scripted:
    """Runs whose dev EERs and batches the test chooses."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.speakers: dict[int, set[int]] = {}
        self.poisoned: range = range(0)
        self.eers = iter(EERS)
        evaluate = DevList.evaluate

        def scripted_eer(*args: Any) -> Any:
            return evaluate(*args)._replace(eer=next(self.eers))

        def watched(step: int, batch: Any) -> Any:
            self.speakers[step] = {int(speaker) for speaker in batch["speaker"]}
            return {**batch, "fbank": np.full_like(batch["fbank"], np.nan)} if step in self.poisoned else batch

        patch.setattr(DevList, "evaluate", scripted_eer)
        change_batches(patch, watched)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    return Scripted(monkeypatch)


@pytest.fixture(scope="module")
def finished(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    with pytest.MonkeyPatch.context() as patch:
        Scripted(patch)
        train(config, workdir, progress=False)
    return workdir


def test_a_plateau_lowers_the_rate_of_the_next_steps(config: Config, finished: Path) -> None:
    rates = [line["learning_rate"] for line in read_log(finished) if line["kind"] == "train"]
    peak, floor = config.optimizer.learning_rate, config.optimizer.final_learning_rate
    # Worse after step 4, better after 6, worse after 8, from where a tenth would be below the final rate.
    factors = [1] * 4 + [0.1] * 4 + [floor / peak] * 4
    np.testing.assert_allclose(rates, [peak * factor for factor in factors], rtol=1e-5)


def test_the_best_checkpoint_outlives_the_latest(finished: Path) -> None:
    with Checkpoints(finished) as checkpoints:
        assert checkpoints.steps == [6, STEPS]  # 6 was no multiple of train.checkpoint_every
        assert find_best_step(finished) == 6
    assert load_network(finished, 6).step == 6


def test_an_equal_eer_is_no_better_one(
    config: Config, scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest float32 to 0.1 lies above it."""
    saved = []
    save = Checkpoints.save

    def noted(self: Checkpoints, state: TrainState, **eer: Any) -> None:
        saved.append(int(state.step))
        save(self, state, **eer)

    monkeypatch.setattr(Checkpoints, "save", noted)
    scripted.eers = iter((0.5, 0.1, 0.3, 0.1, 0.1, 0.3, 0.3))
    train(config, tmp_path, progress=False)
    assert saved == [2, 4, 8, STEPS, STEPS], "the best, those on schedule, and the last one"


def test_evaluation_uses_the_average_and_training_the_latest(finished: Path) -> None:
    arrays = read_arrays(finished)
    kernel = "['params']['embedding']['kernel']"
    average, latest = arrays[f"['network']{kernel}"], arrays[f"['training']['latest']{kernel}"]
    assert np.abs(average - latest).max() > 1e-4
    used = load_network(finished).variables["params"]["embedding"]["kernel"]
    np.testing.assert_array_equal(used, average)


def test_non_finite_steps_stop_the_run_and_leave_the_last_good_checkpoint(
    config: Config, finished: Path, scripted: Scripted, tmp_path: Path
) -> None:
    """Three in a row are too many; the same command without the fault finishes like an undisturbed run."""
    scripted.poisoned = range(9, 100)
    with pytest.raises(UserError, match=r"not finite in 3 steps in a row, the last of them step 11.*checkpoint stays"):
        train(config, tmp_path, progress=False)
    skipped = [line for line in read_log(tmp_path) if line["kind"] == "skipped"]
    assert [(line["step"], line["in_row"]) for line in skipped] == [(9, 1), (10, 2), (11, 3)]
    names = open_shards(config.data.train).speakers
    for line in skipped:
        speakers = {names[i] for i in scripted.speakers[line["step"]]}
        assert {name.split("/")[0] for name in line["utterances"]} == speakers
        assert line["loss"] == "nan"
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 8
        assert find_best_step(tmp_path) == 6
    scripted.poisoned = range(0)
    scripted.eers = iter(EERS[5:])
    assert train(config, tmp_path, progress=False).finished
    assert_same_run(finished, tmp_path)


def test_a_single_non_finite_step_changes_only_the_counters(config: Config, scripted: Scripted, tmp_path: Path) -> None:
    scripted.poisoned = range(STEPS, STEPS + 1)
    train(config, tmp_path / "poisoned", progress=False)
    arrays = read_arrays(tmp_path / "poisoned")
    assert arrays["['training']['counters']['skipped']"] == 1
    assert arrays["['training']['step']"] == STEPS
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_a_run_that_ends_in_non_finite_steps_fails(config: Config, scripted: Scripted, tmp_path: Path) -> None:
    """Two at the end are fewer than train.max_skipped_in_row; each call of the same command fails again."""
    scripted.poisoned = range(STEPS - 1, STEPS + 1)
    message = r"2 of 12 steps were not finite and skipped.*2 steps in a row, the last of them step 12.*checkpoint stays"
    for _ in range(2):
        scripted.eers = iter(EERS)
        with pytest.raises(UserError, match=message):
            train(config, tmp_path, progress=False)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 8


def test_skipped_steps_are_reported_and_do_not_enter_the_means(
    config: Config, scripted: Scripted, tmp_path: Path
) -> None:
    scripted.poisoned = range(3, 5)
    result = train(with_overrides(config, ["train.log_every=4"]), tmp_path, progress=False)
    assert result.skipped == 2
    assert "; 2 of 12 were not finite and skipped; " in result.sentence()
    losses = [line["loss"] for line in read_log(tmp_path) if line["kind"] == "train"]
    assert np.isfinite(losses).all()


def test_a_wait_for_data_is_reported_at_once_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), MetricsLog(tmp_path, first_step=0) as log, Watchdog(0.05, log) as watchdog:
        with watchdog.waiting(7):
            deadline = time.monotonic() + 10
            while not caplog.messages and time.monotonic() < deadline:
                time.sleep(0.01)
            assert "step 7 waits for data and the devices are idle" in caplog.messages[0]
        assert "The batch of step 7 came after" in caplog.messages[1]
        with watchdog.waiting(8):
            pass
    (line,) = read_log(tmp_path)
    assert (line["step"], line["kind"]) == (7, "stall")
    assert 0.05 <= line["seconds"] < 10  # rounded to hundredths
    assert len(caplog.messages) == 2


def test_no_wait_is_reported_where_nobody_asks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), MetricsLog(tmp_path, first_step=0) as log, Watchdog(0.0, log) as watchdog:
        with watchdog.waiting(7):
            spent = time.process_time()
            time.sleep(0.3)
            spent = time.process_time() - spent
        assert spent < 0.1, "the thread must not look all the time"
    assert not caplog.messages
    assert not read_log(tmp_path)
