"""The disk traffic of a training run without the training, in processes with a disk that can fail on purpose.

``Server`` starts this file as a process that has imported everything, so that each job is a fork of it: a second
instead of ten. Before the fork, JAX may only be imported.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.support.faulty_disk import COUNT


class Server:
    """Runs jobs, one at a time, each in a fresh process."""

    def __init__(self, library: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.faulty_jobs"],
            env=os.environ | {"LD_PRELOAD": str(library)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, job: str, workdir: Path, *, mode: int = COUNT, at: int = 0, reads: bool = False) -> dict[str, Any]:
        """Runs a job in a work directory, with a fault at operation number ``at``.

        Args:
          job: a name of ``JOBS``.
          workdir: of the run.
          mode: which fault.
          at: number of the operation.
          reads: count operations that only read, too.

        Returns:
          ``code`` (exit status), ``stderr`` and, if the job ended, ``operations`` (their number) and
          ``result`` or ``error`` (name of the exception's type and its text).
        """
        order = {"job": job, "workdir": str(workdir), "mode": mode, "at": at, "reads": reads}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _serve() -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    from absl import logging

    import mqmha_jax.runs.checkpoint
    import mqmha_jax.runs.metrics_log
    import mqmha_jax.runs.workdir  # noqa: F401

    logging.set_verbosity(logging.FATAL)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = json.loads(line)
        answer, said = os.memfd_create("answer"), os.memfd_create("stderr")
        child = os.fork()
        if not child:
            os.dup2(said, 1)
            os.dup2(said, 2)
            _run(order, answer)
        _, status = os.waitpid(child, 0)
        reply = {"code": os.waitstatus_to_exitcode(status), "stderr": _content(said)} | json.loads(
            _content(answer) or "{}"
        )
        print(json.dumps(reply), file=answers, flush=True)


def _content(file: int) -> str:
    with os.fdopen(file, "rb") as opened:
        opened.seek(0)
        return opened.read().decode(errors="replace")


def _run(order: dict[str, Any], answer: int) -> None:
    faults = ctypes.CDLL(None)
    faults.faults_arm.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int)
    faults.faults_count.restype = ctypes.c_long
    workdir = Path(order["workdir"])
    reply: dict[str, Any] = {}
    signal.alarm(60)  # stops a job that hangs; on a busy machine one takes 20 seconds
    faults.faults_arm(str(workdir).encode(), order["mode"], order["at"], order["reads"])
    try:
        reply["result"] = JOBS[order["job"]](workdir)
    except BaseException as error:
        reply["error"] = [type(error).__name__, str(error)]
        traceback.print_exc()
    reply["operations"] = faults.faults_count()
    faults.faults_arm(b"", COUNT, 0, 0)
    os.write(answer, json.dumps(reply).encode())
    sys.exit()  # which waits for threads


def state(step: int, fill: int | None = None) -> Any:
    """Makes a state in which every number shows its step."""
    import jax
    import numpy as np

    from mqmha_jax.runs.state import TrainState

    def array(*shape: int) -> jax.Array:
        first = 1000.0 * (step if fill is None else fill)
        return jax.device_put(first + np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape))

    return TrainState(
        step=jax.device_put(np.int32(step)),
        params={"net": {"embedding": {"kernel": array(3, 4)}}, "head": {"prototypes": array(8, 2, 4)}},
        batch_stats={"mean": array(3)},
        average={},
        opt_state={"momentum": {"net": {"embedding": {"kernel": array(3, 4)}}, "head": {"prototypes": array(8, 2, 4)}}},
        loss_state={},
        counters={"best_eer": array()},
    )


def resume(workdir: Path) -> int:
    """Does what ``train`` does to a work directory for one step: claim, restore, log, save. Returns the step."""
    from mqmha_jax.runs.checkpoint import Checkpoints
    from mqmha_jax.runs.metrics_log import MetricsLog
    from mqmha_jax.runs.workdir import lock_workdir
    from tests.support.tiny import tiny_config

    with (
        lock_workdir(workdir, tiny_config({}), {"fingerprint": "tiny"}, ["s0", "s1"]),
        Checkpoints(workdir, keep=1, keep_best=1) as checkpoints,
    ):
        now = state(0)
        if checkpoints.latest_step is not None:
            now = checkpoints.restore(now)
            _check(now)
        step = int(now.step) + 1
        with MetricsLog(workdir, first_step=step - 1) as log:
            log.write(step, "train", {"loss": 1 / step})
            checkpoints.save(state(step), eer=None if step > 1 else 0.5)
            checkpoints.wait()
    return step


def look(workdir: Path) -> dict[str, Any]:
    """Reads the run without writing; every checkpoint must be complete."""
    from mqmha_jax.runs.checkpoint import Checkpoints
    from mqmha_jax.runs.log_lines import read_log
    from mqmha_jax.runs.run_files import CONFIG_NAME
    from mqmha_jax.runs.workdir import read_config, read_speakers
    from tests.support.best_step import find_best_step

    with Checkpoints(workdir) as checkpoints:
        steps = checkpoints.steps
        best = find_best_step(workdir)
        for step in steps:
            head = checkpoints.restore_head(step)[0]
            _equal(head, state(step).params["head"])
            _equal(checkpoints.restore_network(state(0).network(), step)[0], state(step).network())
        if steps:
            _check(checkpoints.restore(state(0)))
    if steps or (workdir / CONFIG_NAME).exists():
        read_config(workdir)
        assert read_speakers(workdir) == ["s0", "s1"]
    return {"steps": steps, "best": best, "logged": [line["step"] for line in read_log(workdir)]}


def recover(workdir: Path) -> dict[str, Any]:
    """Looks, resumes up to an even step at least one further, and looks again."""
    found = look(workdir)
    while resume(workdir) % 2:
        pass
    parts = {path.name for path in [*workdir.iterdir(), *(workdir / "checkpoints").iterdir()]}
    return {"found": found, "reached": look(workdir), "names": sorted(parts)}


def _check(restored: Any) -> None:
    _equal(restored, state(int(restored.step)))


def _equal(one: Any, other: Any) -> None:
    import jax
    import numpy as np

    jax.tree.map(np.testing.assert_array_equal, one, other)


JOBS = {"resume": resume, "look": look, "recover": recover}

if __name__ == "__main__":
    _serve()
