"""The training loop on a tiny corpus: it learns, resumes exactly, and refuses what does not fit."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from mqmha_jax import parallel
from mqmha_jax.config import Config
from mqmha_jax.config_io import to_dict, with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.dev_list import DevList
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.load_network import load_network
from mqmha_jax.runs.log_lines import read_log
from mqmha_jax.runs.workdir import lock_workdir
from mqmha_jax.train.build import build_training
from mqmha_jax.train.loop import train
from mqmha_jax.types import Batch
from tests.support.batches import change_batches, stop_at
from tests.support.faulty_disk import NO_SPACE, build
from tests.support.jobs import start_job
from tests.support.runs import assert_same_run, read_arrays
from tests.support.tiny import tiny_config, tiny_corpus, write_tiny_shards


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def finished(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    result = train(tiny_config(data), workdir, progress=False)
    assert result.finished
    assert result.step == 12
    return workdir


def test_the_log_holds_training_and_dev_lines(finished: Path) -> None:
    lines = read_log(finished)
    train_lines = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in train_lines] == list(range(1, 13))
    assert [line["step"] for line in lines if line["kind"] == "dev"] == [0, 6, 12]
    needed = {"loss", "accuracy", "target_cosine", "top_negative_cosine", "mean_negative_cosine", "margin", "penalty"}
    needed |= {"learning_rate", "gradient_norm", "utterances_per_second", "data_wait", "device_wait", "host_memory_gb"}
    assert needed <= train_lines[0].keys()
    assert train_lines[0]["margin"] == 0
    assert train_lines[-1]["margin"] == pytest.approx(0.2)
    assert train_lines[-1]["penalty"] == pytest.approx(0.06)
    assert list((finished / "tensorboard").iterdir())


def test_the_log_names_no_best_eer_before_the_first_step(finished: Path) -> None:
    first, *others = [line for line in read_log(finished) if line["kind"] == "dev"]
    assert "best_eer" not in first
    assert [line["best_eer"] for line in others] == pytest.approx(
        [others[0]["eer"], min(line["eer"] for line in others)]
    )


def test_training_raises_the_accuracy_and_lowers_the_dev_eer(data: dict[str, str], tmp_path: Path) -> None:
    config = with_overrides(tiny_config(data), ["train.steps=150", "train.log_every=10", "train.evaluate_every=150"])
    train(config, tmp_path, progress=False)
    lines = read_log(tmp_path)
    accuracies = [line["accuracy"] for line in lines if line["kind"] == "train"]
    eers = [line["eer"] for line in lines if line["kind"] == "dev"]
    assert np.mean(accuracies[-3:]) > max(0.8, accuracies[0] + 0.2)
    assert eers[-1] < eers[0] - 0.05


def test_the_network_before_the_first_step_is_not_the_best_one(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no checkpoint. Where no later EER was below its own, none of them counted as the best one."""
    eers, evaluate = iter([0.1, 0.2, 0.3, 0.4]), DevList.evaluate
    monkeypatch.setattr(DevList, "evaluate", lambda *args: evaluate(*args)._replace(eer=next(eers)))
    config = with_overrides(tiny_config(data), ["train.evaluate_every=5", "train.keep_checkpoints=1"])
    train(config, tmp_path, progress=False)
    assert Checkpoints(tmp_path).steps == [5, 12]


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(
    data: dict[str, str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at step 5, between two checkpoints; the second call resumes there."""
    stop_at(monkeypatch, 5)
    result = train(tiny_config(data), tmp_path, progress=False)
    assert (result.step, result.finished) == (5, False)
    monkeypatch.undo()
    assert train(tiny_config(data), tmp_path, progress=False).finished
    assert_same_run(finished, tmp_path)


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(
    data: dict[str, str], finished: Path, tmp_path: Path
) -> None:
    """SIGKILL to a real process at a random moment, then the same command again."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(tiny_config(data))))
    workdir = tmp_path / "run"
    command = [sys.executable, "-m", "mqmha_jax", "train", str(path), "--workdir", str(workdir), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not [line for line in read_log(workdir) if line["step"] >= 5]:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert subprocess.run(command).returncode == 0
    assert_same_run(finished, workdir)


def test_a_finished_run_is_left_as_it_is(data: dict[str, str], finished: Path) -> None:
    before = read_arrays(finished)
    assert train(tiny_config(data), finished, progress=False).finished
    after = read_arrays(finished)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_another_configuration_is_refused_with_the_differing_fields(data: dict[str, str], finished: Path) -> None:
    other = with_overrides(tiny_config(data), ["loss.margin=0.3", "model.pooling.heads=1"])
    with pytest.raises(UserError, match=r"loss\.margin: 0\.2 -> 0\.3; model\.pooling\.options\.heads: 2 -> 1"):
        train(other, finished, progress=False)


def test_options_that_change_no_number_may_change_on_resume(data: dict[str, str], finished: Path) -> None:
    assert train(with_overrides(tiny_config(data), ["train.log_every=5"]), finished, progress=False).finished
    train(tiny_config(data), finished, progress=False)


def test_other_data_is_refused_on_resume(data: dict[str, str], finished: Path, tmp_path: Path) -> None:
    write_tiny_shards(tmp_path / "other", speakers=8, seed=5)
    other = with_overrides(tiny_config(data), [f"data.train={tmp_path / 'other'}"])
    with pytest.raises(UserError, match="was trained on other data"):
        train(other, finished, progress=False)


def test_two_processes_in_one_work_directory_are_refused(data: dict[str, str], tmp_path: Path) -> None:
    config = tiny_config(data)
    with (
        lock_workdir(tmp_path, config, {}, []),
        pytest.raises(UserError, match="Another process is training in"),
    ):
        lock_workdir(tmp_path, config, {}, [])


def test_training_without_data_says_how_to_name_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.train is not set: give the training shards, data\.train=DIR"):
        train(tiny_config({}), tmp_path, progress=False)


def test_shards_with_other_features_are_refused(data: dict[str, str], tmp_path: Path) -> None:
    config = with_overrides(tiny_config(data), ["fbank.window=povey"])
    with pytest.raises(UserError, match=r"fbank\.window: povey -> hamming"):
        train(config, tmp_path, progress=False)


def test_speakers_shared_with_the_dev_list_are_reported(data: dict[str, str], tmp_path: Path) -> None:
    write_tiny_shards(tmp_path / "dev", speakers=6, first=6, seed=1)
    config = with_overrides(tiny_config(data), [f"data.dev={tmp_path / 'dev'}", "train.steps=1"])
    with pytest.warns(UserWarning, match=r"share 2 speakers with the training set"):
        train(config, tmp_path / "run", progress=False)


def test_an_unknown_utterance_in_the_dev_list_stops_before_training(data: dict[str, str], tmp_path: Path) -> None:
    trials = tmp_path / "list"
    trials.write_text("1 s8/u0 s8/u1\n0 s8/u0 s9/u99\n")
    config = with_overrides(tiny_config(data), [f"data.dev_trials={trials}"])
    with pytest.raises(UserError, match=r"s9/u99"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_divide_by_the_devices_is_refused(data: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.batch_size=9 does not divide by the 8 devices"):
        train(with_overrides(tiny_config(data), ["data.batch_size=9"]), tmp_path, progress=False)


def test_top_k_at_the_number_of_speakers_is_refused(data: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"top_k must be below the number of speakers"):
        train(with_overrides(tiny_config(data), ["loss.top_k=8"]), tmp_path, progress=False)


def test_a_checkpoint_of_another_architecture_is_refused_by_name(
    data: dict[str, str], finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    other: Config = with_overrides(tiny_config(data), ["model.embedding_dim=7"])
    (tmp_path / "run" / "config.json").write_text(json.dumps(to_dict(other)))
    with pytest.raises(
        UserError, match=r"is not the run that saved its checkpoint of step 12.*model\.embedding_dim: 6 -> 7"
    ):
        load_network(tmp_path / "run")
    with pytest.raises(UserError, match=r"is not the run that saved its checkpoint"):
        train(other, tmp_path / "run", progress=False)


def test_checkpoints_without_their_configuration_are_refused_and_stay_described(
    data: dict[str, str], finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.json")}
    with pytest.raises(UserError, match=r"holds checkpoints, but no config\.json.*Restore the file, or give a new"):
        train(with_overrides(tiny_config(data), ["loss.margin=0.5"]), tmp_path / "run", progress=False)
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.json")} == before


def test_a_half_written_checkpoint_is_never_picked_up(data: dict[str, str], finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    shutil.rmtree(checkpoints / "12")
    unfinished = checkpoints / ".saving-12"
    shutil.copytree(checkpoints / "8", unfinished)
    with Checkpoints(tmp_path / "run") as opened:
        assert opened.latest_step == 8
    assert train(tiny_config(data), tmp_path / "run", progress=False).finished
    assert_same_run(finished, tmp_path / "run")


@pytest.mark.slow
def test_a_full_disk_stops_with_the_last_good_checkpoint(data: dict[str, str], finished: Path, tmp_path: Path) -> None:
    """The real command, on a disk that is full when the checkpoint of step 8 is written."""
    growing = tmp_path / "run" / "checkpoints" / ".saving-8"
    full = {"LD_PRELOAD": str(build(tmp_path)), "FAULTS": f"{NO_SPACE} {growing}"}
    with start_job(tiny_config(data), tmp_path / "run", processes=1, variables=full) as [process]:
        output = process.communicate(timeout=200)[0]
    assert process.returncode == 1, output
    assert re.search(r"No space left on device.*last good checkpoint is that of step 6.*Free some space", output)
    assert "Traceback" not in output
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.steps == [4, 6]  # step 6 has the best dev EER so far
    assert train(tiny_config(data), tmp_path / "run", progress=False).finished
    assert_same_run(finished, tmp_path / "run")


@pytest.mark.slow
def test_one_signal_saves_and_says_so(
    data: dict[str, str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    for step, number in ((3, signal.SIGHUP), (7, signal.SIGINT)):
        with monkeypatch.context() as patch:
            stop_at(patch, step, number)
            result = train(tiny_config(data), tmp_path, progress=False)
        assert (result.step, result.finished) == (step, False)
    said = capfd.readouterr().err
    assert "SIGHUP: saving a checkpoint after this step, then stopping." in said
    assert "Ctrl-C: saving a checkpoint after this step, then stopping. Press Ctrl-C again to stop at once" in said
    assert train(tiny_config(data), tmp_path, progress=False).finished
    assert_same_run(finished, tmp_path)


def test_a_hangup_that_was_ignored_before_stays_ignored(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop_at(monkeypatch, 1, signal.SIGHUP)
        assert train(with_overrides(tiny_config(data), ["train.steps=2"]), tmp_path, progress=False).finished
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_log_holds_means_over_the_steps_since_the_last_line(
    data: dict[str, str], finished: Path, tmp_path: Path
) -> None:
    train(with_overrides(tiny_config(data), ["train.log_every=5"]), tmp_path, progress=False)
    every = {line["step"]: line for line in read_log(finished) if line["kind"] == "train"}
    lines = [line for line in read_log(tmp_path) if line["kind"] == "train"]
    assert [line["step"] for line in lines] == [5, 10, 12]
    for line, steps in zip(lines, (range(1, 6), range(6, 11), range(11, 13)), strict=True):
        for name in ("loss", "accuracy", "target_cosine", "gradient_norm"):
            assert line[name] == pytest.approx(np.mean([every[step][name] for step in steps]), rel=1e-12)
        for name in ("learning_rate", "margin", "skipped"):
            assert line[name] == every[line["step"]][name]


def test_the_result_counts_the_steps_of_this_call(data: dict[str, str], tmp_path: Path) -> None:
    config = tiny_config(data, steps=4)
    first = train(config, tmp_path, progress=False)
    assert (first.step, first.trained, first.skipped) == (4, 4, 0)
    assert re.fullmatch(r"Trained 4 steps; waited for data [\d.]+% of the time\.", first.sentence())
    again = train(config, tmp_path, progress=False)
    assert (again.step, again.trained) == (4, 0)
    assert again.sentence() == "The run has its 4 steps already; train.steps=N with a larger N continues it."


@pytest.mark.slow
def test_a_finished_run_can_be_given_more_steps(
    data: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tiny_config(data, steps=4), tmp_path, progress=False)
    with caplog.at_level("WARNING"):
        result = train(tiny_config(data, steps=10), tmp_path, progress=False)
    assert (result.step, result.trained, result.finished) == (10, 6, True)
    assert result.sentence().startswith("Trained 6 steps (10 in all); ")
    assert "run of 4 steps continues after step 4 towards 10. Schedules span the whole run, so here" in caplog.text
    assert re.search(
        r"the learning rate goes from 0\.001 to 0\.0\d+ and the share of the margin goes from 1 to 0\.8\.", caplog.text
    )
    with pytest.raises(UserError, match=r"train\.steps: 10 -> 6"):
        train(tiny_config(data, steps=6), tmp_path, progress=False)


def test_a_work_directory_that_is_deleted_during_the_run_ends_it(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = tmp_path / "run"

    def delete(step: int, batch: Batch) -> Batch:
        if step == 3:
            shutil.rmtree(workdir)
        return batch

    change_batches(monkeypatch, delete)
    with pytest.raises(UserError, match=r"run was deleted or moved during the run.*Training stops"):
        train(tiny_config(data, log_every=2), workdir, progress=False)
    assert not workdir.exists()


def test_a_single_example_per_batch_is_refused_with_the_reason(data: dict[str, str], tmp_path: Path) -> None:
    config = with_overrides(tiny_config(data), ["data.batch_size=8", "optimizer.accumulate=8"])
    one_device = parallel.device_mesh(config.mesh, jax.devices()[:1])
    for overrides in (["data.batch_size=1", "optimizer.accumulate=1"], []):
        with pytest.raises(UserError, match=r"batch normalisation needs at least 2 .*data\.batch_size=2 or more"):
            build_training(with_overrides(config, overrides), num_speakers=8, mesh=one_device)


def test_a_batch_larger_than_the_memory_is_refused_before_it_is_drawn(data: dict[str, str], tmp_path: Path) -> None:
    config = with_overrides(tiny_config(data), ["data.batch_size=2000000000"])
    message = r"batch_size=2000000000 with data\.crop_frames=\d+ is [\d,]+ GB of frames .* Lower data\.batch_size"
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
