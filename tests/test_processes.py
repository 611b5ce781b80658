"""Several real processes are one program: equal results, one moment to stop, and a resume with fewer or more."""

import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from mqmha_jax.config import Config
from mqmha_jax.config_io import with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.processes import join_processes
from mqmha_jax.runs.log_lines import read_log
from tests.support.jobs import run_job, start_job, wait_for_step
from tests.support.runs import assert_close, read_arrays
from tests.support.tiny import tiny_config, tiny_corpus


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Gentle, so that another order of summation only changes rounding; sharded, so that hosts cross both axes.

    Parts of a batch, groups of its rows and pairs of a speaker's utterances depend on the order of rows.
    """
    data = tiny_corpus(tmp_path_factory.mktemp("corpus"))
    overrides = ["loss.scale=8", "optimizer.name=sgd", "optimizer.learning_rate=0.005", "mesh.model=2"]
    overrides += ["data.batch_size=32", "optimizer.accumulate=2", "model.batch_norm_groups=2"]
    pairs = '[{"name": "ge2e", "weight": 0.1}]'
    overrides += ["data.sampling=speaker", "data.utterances_per_speaker=4", f"loss.pairs={pairs}"]
    return with_overrides(tiny_config(data), overrides)


@pytest.fixture(scope="module")
def one_process(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "one"
    run_job(config, workdir, processes=1)
    return workdir


@pytest.fixture(scope="module")
def two_processes(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "two"
    run_job(config, workdir, processes=2)
    return workdir


def test_two_processes_train_as_one(one_process: Path, two_processes: Path) -> None:
    assert_close(one_process, two_processes)
    one, two = (
        [(line["step"], line["eer"]) for line in read_log(w) if line["kind"] == "dev"]
        for w in (one_process, two_processes)
    )
    np.testing.assert_allclose(two, one, atol=1e-6)
    assert len([line for line in read_log(two_processes) if line["kind"] == "train"]) == 12


@pytest.mark.slow
def test_sigterm_to_one_process_stops_all_after_the_same_step_and_two_resume(
    config: Config, two_processes: Path, tmp_path: Path
) -> None:
    with start_job(config, tmp_path / "run", processes=2, overrides=["train.steps=12"]) as job:
        wait_for_step(tmp_path / "run", 2, job)
        job[1].send_signal(signal.SIGTERM)
        outputs = [process.communicate(timeout=120)[0] for process in job]
    stopped = [line for output in outputs for line in output.splitlines() if line.startswith("Stopped after step")]
    assert len(stopped) == 2, outputs
    assert stopped[0] == stopped[1]
    assert [process.returncode for process in job] == [143, 143]
    run_job(config, tmp_path / "run", processes=2)
    ours, theirs = read_arrays(tmp_path / "run"), read_arrays(two_processes)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.slow
def test_when_one_process_is_lost_the_other_ends_and_the_job_resumes(
    config: Config, two_processes: Path, tmp_path: Path
) -> None:
    slow = with_overrides(config, ["train.checkpoint_every=2"])
    with start_job(slow, tmp_path / "run", processes=2) as job:
        wait_for_step(tmp_path / "run", 5, job)
        job[1].kill()
        job[0].communicate(timeout=200)
    assert job[0].returncode not in (0, None)
    run_job(slow, tmp_path / "run", processes=2)
    ours, theirs = read_arrays(tmp_path / "run"), read_arrays(two_processes)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_a_work_directory_of_another_run_is_refused_by_all(config: Config, two_processes: Path) -> None:
    with start_job(with_overrides(config, ["loss.margin=0.3"]), two_processes, processes=2) as job:
        outputs = [process.communicate(timeout=120)[0] for process in job]
    assert [process.returncode for process in job] == [1, 1], outputs
    assert all("holds a run with another configuration" in output for output in outputs), outputs


def test_processes_with_different_options_are_refused(config: Config, tmp_path: Path) -> None:
    with start_job(config, tmp_path / "run", processes=2, of_process={1: ["loss.margin=0.3"]}) as job:
        outputs = [process.communicate(timeout=120)[0] for process in job]
    assert all("Process 1 has another configuration" in output for output in outputs), outputs
    assert [process.returncode for process in job] == [1, 1]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"JAX_NUM_PROCESSES": "2"}, r"JAX_NUM_PROCESSES is set, but not JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID"),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"},
            r"JAX_NUM_PROCESSES is 'two'; it must be a whole number",
        ),
        ({}, r"cannot be joined.*a single process needs no --multi-process"),
    ],
)
def test_missing_cluster_variables_are_named(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def unknown_cluster(**patience: int) -> None:
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", unknown_cluster)
    with pytest.raises(UserError, match=message):
        join_processes()
