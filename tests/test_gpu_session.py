"""benchmarks/gpu_session.sh in its small form on a CPU: it resumes after a kill, and leaves figures as JSON.

With TORCH_PYTHON, an interpreter that has torch, the comparison with PyTorch takes part.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT

TORCH = os.environ.get("TORCH_PYTHON", "")
ENVIRONMENT = {
    "SIZE": "small",
    "JAX_PLATFORMS": "cpu",
    "PYTHON": sys.executable,
    "TORCH_PYTHON": TORCH or sys.executable,
}


def start(results: Path) -> "subprocess.Popen[str]":
    command = ["bash", str(ROOT / "benchmarks" / "gpu_session.sh"), str(results), "1800"]
    return subprocess.Popen(
        command, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def kill_session(leader: int) -> None:
    """Also what ``timeout`` started, which has a process group of its own."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(ProcessLookupError):
            if entry.name.isdigit() and os.getsid(int(entry.name)) == leader:
                os.kill(int(entry.name), signal.SIGKILL)


def read_line(path: Path) -> dict[str, Any]:
    (line,) = path.read_text().splitlines()
    return json.loads(line)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the processes of a session in /proc")
def test_a_killed_session_resumes_and_leaves_figures(tmp_path: Path) -> None:
    first = start(tmp_path)
    while not (tmp_path / "convolutions.done").exists():
        assert first.poll() is None
        time.sleep(0.2)
    kill_session(first.pid)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    assert {path.stem for path in tmp_path.glob("*.done")} == {"convolutions"}

    second = start(tmp_path)
    said, _ = second.communicate()
    assert "== convolutions" not in said
    assert "== resnet34" in said
    if TORCH:
        assert second.returncode == 0, said
        assert f"all stages are done: {tmp_path}" in said
        assert "parameters" in (tmp_path / "equality.log").read_text()
    else:
        assert second.returncode == 1
        assert "not done: equality; the same command continues with them" in said

    convolutions = read_line(tmp_path / "gpu_convolutions.jsonl")
    assert convolutions["wrong"] == 0
    assert convolutions["found"] > 0
    step = read_line(tmp_path / "train_step.jsonl")
    assert (step["encoder"], step["dtype"], step["batch_size"]) == ("resnet34", "bfloat16", 2)
    assert step["contenders"]["mqmha_jax"]["utterances_per_second"] > 0
    assert ("failed" in step["contenders"]["torch channels_last"]) == (not TORCH)
