"""Worker processes end with the training process, survive its signals, and a lost one is reported."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqmha_jax.config import DataConfig
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.train_pipeline import train_batches
from mqmha_jax.data.workers import require_live_workers
from mqmha_jax.errors import UserError
from mqmha_jax.types import Batch
from tests.support.processes import processes_with, wait_until
from tests.support.tiny import write_tiny_shards

OPTIONS = {"batch_size": 4, "crop_frames": 24}

READER = f"""
import sys
from absl import flags
flags.FLAGS.mark_as_parsed()
from mqmha_jax.config import DataConfig
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.data.train_pipeline import train_batches
if __name__ == "__main__":
    data = DataConfig(num_workers=2, **{OPTIONS!r})
    batches = train_batches(open_shards(sys.argv[1]), data, seed=0, first_step=0)
    while True:
        next(batches)
        print("batch", flush=True)
"""


def take(batches: Iterator[Batch], number: int) -> None:
    for _ in range(number):
        next(batches)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_shards(tmp_path_factory.mktemp("corpus") / "train", speakers=3)


def test_workers_end_when_the_training_process_is_killed(directory: Path, tmp_path: Path) -> None:
    program = tmp_path / "reader.py"
    program.write_text(READER)
    mark = f"MQMHA_TEST_MARK={tmp_path}"
    environment = os.environ | dict([mark.split("=", 1)])
    with subprocess.Popen(
        [sys.executable, program, directory], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == b"batch\n"
        assert len(processes_with(mark)) >= 3
        process.kill()
    assert wait_until(lambda: not processes_with(mark), seconds=20), processes_with(mark)


def test_a_worker_ignores_terminal_signals_and_its_loss_is_reported(directory: Path) -> None:
    batches = train_batches(open_shards(directory), DataConfig(num_workers=1, **OPTIONS), seed=0, first_step=0)
    try:
        checked = require_live_workers(batches, 1)
        next(checked)
        (worker,) = multiprocessing.active_children()
        assert worker.pid is not None
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            os.kill(worker.pid, number)
        time.sleep(0.3)
        assert worker.is_alive()
        take(checked, 20)
        os.kill(worker.pid, signal.SIGKILL)
        message = (
            r"One of the 1 processes that make batches \(data\.num_workers\) .*signal SIGKILL.*run the same command"
        )
        with pytest.raises(UserError, match=message):
            take(checked, 1000)
    finally:
        batches.close()
