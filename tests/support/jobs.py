"""Real processes that train together over loopback, as hosts of a cluster would."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mqmha_jax.config import Config
from mqmha_jax.config_io import to_dict
from mqmha_jax.errors import UserError
from mqmha_jax.runs.log_lines import read_log

DEVICES = 8
"""Virtual devices of a job, whatever the number of processes."""


@contextlib.contextmanager
def start_job(
    config: Config,
    workdir: Path,
    *,
    processes: int,
    devices: int = DEVICES,
    overrides: Sequence[str] = (),
    of_process: Mapping[int, Sequence[str]] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[list[subprocess.Popen[str]]]:
    """Starts ``mqmha train`` in processes that share ``devices`` virtual devices; kills them at the end if still alive.

    Args:
      config: of the run.
      workdir: of the run.
      processes: how many.
      devices: in all.
      overrides: for all processes.
      of_process: more overrides for some processes.
      variables: more environment variables for all.
    """
    workdir.parent.mkdir(parents=True, exist_ok=True)
    path = workdir.parent / f"{workdir.name}.json"
    path.write_text(json.dumps(to_dict(config)))
    command = [sys.executable, "-m", "mqmha_jax", "train", str(path), "--workdir", str(workdir), "--quiet", *overrides]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XLA_FLAGS")}
    environment["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={devices // processes} --xla_backend_optimization_level=0"
    )
    environment |= variables or {}
    if processes > 1:
        command.append("--multi-process")
        environment |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": str(processes)}
    running = [
        subprocess.Popen(
            [*command, *(of_process or {}).get(index, ())],
            env=environment | {"JAX_PROCESS_ID": str(index)} if processes > 1 else environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(processes)
    ]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def run_job(
    config: Config, workdir: Path, *, processes: int, devices: int = DEVICES, overrides: Sequence[str] = ()
) -> list[str]:
    """Runs a job that must finish; returns the outputs of its processes."""
    with start_job(config, workdir, processes=processes, devices=devices, overrides=overrides) as running:
        outputs = [process.communicate(timeout=300)[0] for process in running]
        assert [process.returncode for process in running] == [0] * processes, "\n".join(outputs)
    return outputs


def wait_for_step(workdir: Path, step: int, job: Sequence[subprocess.Popen[str]]) -> None:
    """Waits until the log of a running job has a step."""
    deadline = time.monotonic() + 120
    while not [line for line in read_log(workdir) if line["kind"] == "train" and line["step"] >= step]:
        assert all(process.poll() is None for process in job), "the job ended early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def refused_elsewhere() -> Iterator[None]:
    """``raise_together`` in a process that is fine, while another one is refused."""
    yield
    raise UserError("another process is refused")
