"""A map over worker processes that keeps the order and bounded memory."""

import collections
import concurrent.futures
import itertools
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mqmha_jax.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

TASKS_AHEAD = 8
"""Tasks per worker handed out before their result is asked for: enough to keep workers busy behind a slow task."""


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int
) -> Generator[Result, None, None]:
    """``map(function, items)`` by processes of one thread each; close the iterator to stop early.

    Args:
      function: of one item; it and the items pickle.
      items: consumed as the work goes on.
      num_workers: worker processes; 0 calls the function in this process.

    Raises:
      UserError: a worker died.
      Exception: whatever the function raised.
    """
    if num_workers == 0:
        yield from map(function, items)
        return
    items = iter(items)
    # Not forked: JAX has threads in this process, whose locks a fork would copy in any state.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(num_workers, context, initializer=_single_thread) as pool:
        try:
            waiting = collections.deque(
                pool.submit(function, item) for item in itertools.islice(items, num_workers * TASKS_AHEAD)
            )
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
                yield result
        except BrokenProcessPool:
            raise UserError(
                "A worker process died; most often it ran out of memory. Try again with fewer workers, "
                f"--num-workers {max(1, num_workers // 2)} for instance."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _single_thread() -> None:
    """One thread per worker: many processes with a pool of threads each would only wait for each other."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    # The user's own flags stay: other compiler options would round other bits than num_workers=0 does.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    os.environ["NPROC"] = "1"  # size of XLA's thread pool
    os.environ["OMP_NUM_THREADS"] = "1"
