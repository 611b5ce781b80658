"""A run resumes where it stopped, on other devices, another mesh, more processes or more workers too."""

import itertools
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

from mqmha_jax import parallel
from mqmha_jax.config import Config, MeshConfig
from mqmha_jax.config_io import with_overrides
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.log_lines import read_log
from mqmha_jax.train.loop import train
from tests.support.batches import stop_at
from tests.support.jobs import run_job, start_job, wait_for_step
from tests.support.processes import processes_with, wait_until
from tests.support.runs import assert_close, assert_same_run, read_arrays
from tests.support.tiny import tiny_config, tiny_corpus


class Cell(NamedTuple):
    """The machine for a part of a run."""

    devices: int
    model: int = 1
    workers: int = 0
    processes: int = 1


CELLS = [
    Cell(devices, model, workers, processes)
    for devices, model, workers, processes in itertools.product((1, 2, 4, 8), (1, 2), (0, 4), (1, 2))
    if model <= devices and processes <= devices
]

STOP = 9
"""A run stops after this step, between two checkpoints; several processes stop a few steps later."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Gentle, so that another order of summation only changes rounding; long enough to stop on the way."""
    gentle = ["loss.scale=8", "optimizer.name=sgd", "optimizer.learning_rate=0.0005"]
    length = ["train.steps=40", "train.evaluate_every=20", "train.checkpoint_every=6"]
    return with_overrides(tiny_config(tiny_corpus(tmp_path_factory.mktemp("corpus"))), gentle + length)


def run(config: Config, workdir: Path, cell: Cell, *, stop: bool = False) -> Path:
    """Trains on a machine to the end, or until the scheduler takes it away after ``STOP``."""
    config = with_overrides(config, [f"mesh.model={cell.model}", f"data.num_workers={cell.workers}"])
    if cell.processes == 1:
        finished = _run_here(config, workdir, cell.devices, stop)
    elif stop:
        with start_job(config, workdir, processes=cell.processes, devices=cell.devices) as job:
            wait_for_step(workdir, STOP, job)
            job[-1].send_signal(signal.SIGTERM)
            for process in job:
                process.communicate(timeout=120)
        finished = job[0].returncode == 0
    else:
        run_job(config, workdir, processes=cell.processes, devices=cell.devices)
        finished = True
    assert finished != stop
    return workdir


def _run_here(config: Config, workdir: Path, num_devices: int, stop: bool) -> bool:
    all_devices = parallel.device_mesh

    def some_devices(options: MeshConfig) -> jax.sharding.Mesh:
        return all_devices(options, jax.devices()[:num_devices])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "device_mesh", some_devices)
        if stop:
            stop_at(patch, STOP)
        return train(config, workdir, progress=False).finished


@pytest.fixture(scope="module")
def reference(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One device, undisturbed."""
    return run(config, tmp_path_factory.mktemp("reference") / "run", Cell(devices=1))


def check(config: Config, reference: Path, root: Path, cell: Cell, other: Cell) -> None:
    whole = run(config, root / "whole", cell)
    assert_close(whole, reference)
    run(config, root / "part", cell, stop=True)
    shutil.copytree(root / "part", root / "moved")
    assert_same_run(run(config, root / "part", cell), whole)
    assert_close(run(config, root / "moved", other), reference)


@pytest.mark.slow
def test_resumed_on_the_same_machine_to_the_bit_and_on_another_to_rounding(
    config: Config, reference: Path, tmp_path: Path
) -> None:
    check(config, reference, tmp_path, Cell(devices=8, model=2), Cell(devices=2))


def test_what_a_loss_remembers_is_resumed_to_the_bit(config: Config, tmp_path: Path) -> None:
    """Curricular's mean cosine and the diagnostics' memory go on from the checkpoint, not from their first values."""
    remembering = with_overrides(config, ["loss.name=curricular", "loss.diagnostics=true", "train.steps=12"])
    whole = run(remembering, tmp_path / "whole", Cell(devices=1))
    run(remembering, tmp_path / "part", Cell(devices=1), stop=True)
    assert_same_run(run(remembering, tmp_path / "part", Cell(devices=1)), whole)
    remembered = {name: value for name, value in read_arrays(whole).items() if "loss_state" in name}
    assert len(remembered) > 1
    assert any(value.any() for value in remembered.values())


def test_the_same_checkpoints_stay_as_without_the_interruption(config: Config, tmp_path: Path) -> None:
    """An average of the last checkpoints must not depend on where a run was stopped."""
    short = with_overrides(config, ["train.steps=18", "train.keep_best=0"])
    run(short, tmp_path / "part", Cell(devices=1), stop=True)
    assert Checkpoints(tmp_path / "part").steps == [6, STOP]
    assert Checkpoints(run(short, tmp_path / "part", Cell(devices=1))).steps == [6, 12, 18]


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_resumed_on_every_machine(config: Config, reference: Path, tmp_path: Path, cell: Cell) -> None:
    others = [other for other in CELLS if other != cell]
    check(config, reference, tmp_path, cell, random.Random(str(cell)).choice(others))


@pytest.mark.slow
def test_thirty_kills_leave_no_trace_and_no_process(config: Config, tmp_path: Path) -> None:
    """SIGKILL to one or both of two processes with data workers at random moments, then the same command again.

    The run that finishes in the end equals an undisturbed one without workers, and no worker outlives a kill.
    """
    config = with_overrides(config, ["train.steps=400", "train.checkpoint_every=4", "train.evaluate_every=40"])
    run_job(config, tmp_path / "undisturbed", processes=2)
    config = with_overrides(config, ["data.num_workers=1"])
    workdir, draw = tmp_path / "killed", random.Random(30)
    mark = f"MQMHA_TEST_MARK={workdir}"
    for _ in range(30):
        with start_job(config, workdir, processes=2, variables=dict([mark.split("=")])) as job:
            if draw.random() < 0.3:  # between the start and the first steps: one alone would wait for the other to join
                time.sleep(draw.uniform(0, 12))
                victims = (0, 1)
            else:
                _wait_for_steps(workdir, draw.randrange(1, 10), job)
                time.sleep(draw.uniform(0, 0.1))
                victims = draw.choice([(0,), (1,), (0, 1)])
            for victim in victims:
                job[victim].kill()
            for process in job:  # a process that was spared ends by itself
                process.communicate(timeout=60)
            assert all(process.returncode != 0 for process in job)
        assert wait_until(lambda: not processes_with(mark), seconds=30), processes_with(mark)
    run_job(config, workdir, processes=2)
    assert_same_run(workdir, tmp_path / "undisturbed")


def _wait_for_steps(workdir: Path, number: int, job: list[subprocess.Popen[str]]) -> None:
    """Waits until a job has done ``number`` steps; steps of earlier jobs do not count."""
    start = time.time()
    while len([line for line in read_log(workdir) if line["kind"] == "train" and line["time"] > start]) < number:
        assert all(process.poll() is None for process in job), "the job ended early"
        assert time.time() < start + 120
        time.sleep(0.01)
