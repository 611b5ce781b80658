"""Worker processes that make batches: they survive a request to stop, but not the training process."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from mqmha_jax.errors import UserError
from mqmha_jax.types import Batch

# Seconds after SIGTERM at which a worker ends; the training process needs batches for one more step at most.
_GRACE_SECONDS = 60


def prepare_worker(index: int, count: int) -> None:
    """Prepares a new worker process; for grain's ``worker_init_fn``.

    A terminal sends Ctrl-C and SIGHUP, and many schedulers send SIGTERM, to all processes of a job. The training
    process then does one more step and saves, so its workers must still make batches. When the training process is
    killed, nobody tells the workers, which would wait for a reader forever; so a thread in each waits for that end.

    Args:
      index: number of the worker.
      count: number of workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()


def _end_later(number: int, frame: FrameType | None) -> None:
    signal.alarm(_GRACE_SECONDS)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # the resource tracker frees the shared memory of batches


def require_live_workers(batches: Iterator[Batch], num_workers: int) -> Iterator[Batch]:
    """Yields batches; reports a worker that the system ended.

    Args:
      batches: iterator of ``train_batches``.
      num_workers: number of its workers.

    Raises:
      UserError: a worker was killed.
    """
    while True:
        try:
            batch = next(batches)
        except RuntimeError as error:
            if not num_workers or "terminated unexpectedly" not in str(error):
                raise
            raise UserError(
                f"One of the {num_workers} processes that make batches (data.num_workers) was killed "
                f"({_exit_code(str(error))}), often because the system ran out of memory. Training stops; the last "
                "checkpoint stays. Free some memory or lower data.num_workers, and run the same command to resume."
            ) from error
        yield batch


def _exit_code(message: str) -> str:
    """``exit code -9`` of grain's message as ``signal SIGKILL``."""
    words = message.partition("exit code ")[2].rstrip(". ").split(". ")[0]
    try:
        return f"signal {signal.Signals(-int(words)).name}"
    except ValueError:
        return f"exit code {words}" if words else "no exit code known"
