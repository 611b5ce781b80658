"""A map over worker processes that keeps the order, bounds memory and leaves no process behind."""

import collections
import concurrent.futures
import ctypes
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, TypeVar

from mqmha_jax.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

TASKS_AHEAD = 2
"""Tasks per worker that are submitted before their result is needed: enough to keep workers busy behind a slow one."""

NAME_BYTES = 512

_NONE_BEGAN = (
    "No worker process could start. Each one imports your script again, so the script must start work only below "
    "if __name__ == '__main__': (or with num_workers=0, without processes)."
)


class _Note(ctypes.Structure):
    """What a worker works on, in memory that the parent can read after the worker died."""

    _fields_ = (("since", ctypes.c_double), ("deadline", ctypes.c_double), ("name", ctypes.c_char * NAME_BYTES))


_note = _Note()  # in a worker: its own in the shared memory


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def now_at(name: str, deadline_seconds: float) -> None:
    """Notes what the mapped function works on, to be named if the worker dies.

    Args:
      name: of the work; empty: none.
      deadline_seconds: the worker ends itself if it is not done after this time.
    """
    _note.since = time.time()
    _note.deadline = _note.since + deadline_seconds
    _note.name = name.encode(errors="surrogateescape")[: NAME_BYTES - 1]


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int
) -> Generator[Result, None, None]:
    """``map(function, items)`` with single-threaded processes; close the iterator to stop early.

    Args:
      function: takes one item; it and the items must pickle.
      items: consumed step by step.
      num_workers: worker processes; 0 calls the function in this process.

    Raises:
      UserError: a worker died; names what the workers worked on.
      Exception: whatever the function raised.
    """
    if num_workers == 0:
        yield from map(function, items)
        return
    items = iter(items)
    # Not forked: a fork would copy the locks of JAX's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    notes = context.RawArray(_Note, num_workers)
    others = set(multiprocessing.active_children())
    num_begun = context.Value("i", 0)
    pool = concurrent.futures.ProcessPoolExecutor(num_workers, context, initializer=_begin, initargs=(notes, num_begun))
    try:
        waiting = collections.deque(
            pool.submit(function, item) for item in itertools.islice(items, num_workers * TASKS_AHEAD)
        )
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
            yield result
    except BrokenProcessPool:
        raise UserError(_describe_death(notes, num_workers) if num_begun.value else _NONE_BEGAN) from None
    finally:
        # The tasks in progress are useless now, and could take minutes.
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        pool.shutdown(cancel_futures=True)


def _begin(notes: Any, num_begun: Any) -> None:
    """Prepares a worker with one thread: many processes with a thread pool each would wait for each other."""
    global _note
    os.environ["JAX_PLATFORMS"] = "cpu"
    # The user's own flags stay: other compiler options would round other bits than num_workers=0 does.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    os.environ["NPROC"] = "1"  # size of XLA's thread pool
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it, too, and ends the workers
    with num_begun.get_lock():
        _note = notes[num_begun.value]
        num_begun.value += 1
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    """Ends a worker if its parent was killed, or if it hangs where no signal reaches it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while not connection.wait([parent.sentinel], timeout=1):
        if _note.name and time.time() > _note.deadline:
            os._exit(1)
    os._exit(1)


def _describe_death(notes: Any, num_workers: int) -> str:
    busy = sorted((note.since, note.name.decode(errors="replace")) for note in notes if note.name)
    named = "".join(f"\n  {time.time() - since:.0f} s: {name}" for since, name in busy[:8])
    return (
        "A worker process died, most likely because memory ran out. Try again with fewer workers, such as "
        f"--num-workers {max(1, num_workers // 2)}."
        + (f" The workers were reading these recordings; leave out one that is huge or hangs:{named}" if named else "")
    )
