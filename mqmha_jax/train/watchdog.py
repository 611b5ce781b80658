"""Warns while devices are idle waiting for data."""

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mqmha_jax.runs.metrics_log import MetricsLog

_LOGGER = logging.getLogger(__name__)

# Interval at which the thread looks, as a share of the wait that it reports.
_SHARE = 1 / 4


class _Wait(NamedTuple):
    step: int
    start: float


class Watchdog:
    """Watches the waits of a run for data.

    One thread looks at intervals. A new thread (or timer) for every wait would cost each step milliseconds, because it
    queues for Python's lock with the threads that make batches.
    """

    def __init__(self, seconds: float, log: MetricsLog) -> None:
        """Prepares to watch.

        Args:
          seconds: shorter waits are not reported; 0: none is.
          log: log of the run.
        """
        self._seconds, self._log = seconds or math.inf, log
        self._wait: _Wait | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    @contextmanager
    def waiting(self, step: int) -> Iterator[None]:
        """Watches the wait inside: warns when it gets long, and reports and logs its length afterwards.

        Args:
          step: number of the step that waits.
        """
        self._wait = wait = _Wait(step, time.perf_counter())
        try:
            yield
        finally:
            self._wait = None
            waited = time.perf_counter() - wait.start
            if waited > self._seconds:
                _LOGGER.warning("The batch of step %d came after %.0f s.", step, waited)
                self._log.note(step, "stall", {"seconds": round(waited, 3)})

    def _watch(self) -> None:
        reported: _Wait | None = None
        interval = min(self._seconds * _SHARE, threading.TIMEOUT_MAX)
        while not self._over.wait(interval):
            wait = self._wait
            if wait and wait is not reported and time.perf_counter() - wait.start > self._seconds:
                _LOGGER.warning(_MESSAGE, self._seconds, wait.step)
                reported = wait

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


_MESSAGE = (
    "No batch for %g s: step %d waits for data and the devices are idle. Is the storage of data.train slow, or is "
    "data.num_workers too small?"
)
