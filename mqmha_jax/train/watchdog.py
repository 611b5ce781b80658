"""Says when the devices stand still because no batch comes, while it happens and not only afterwards."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mqmha_jax.runs.metrics_log import MetricsLog

_LOGGER = logging.getLogger(__name__)

# How often the thread looks, as a share of the wait that is news.
_SHARE = 1 / 4


class _Wait(NamedTuple):
    step: int
    start: float


class Watchdog:
    """Watches the waits of a run.

    One thread looks now and then. A thread (or timer) of its own for every wait would cost each step milliseconds,
    because a new thread queues for Python's lock with those that make batches.
    """

    def __init__(self, seconds: float, log: MetricsLog) -> None:
        """Plan to watch.

        Args:
          seconds: how long a wait is no news.
          log: of the run.
        """
        self._seconds, self._log = seconds, log
        self._wait: _Wait | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    @contextmanager
    def waiting(self, step: int) -> Iterator[None]:
        """While inside, a wait that gets long is reported; when it is over, its length is, and is logged.

        Args:
          step: the step that waits.
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
        while not self._over.wait(self._seconds * _SHARE):
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
    "No batch for %g s: step %d waits for data and the devices stand still. Is the storage of data.train slow, or are "
    "there too few data.num_workers?"
)
