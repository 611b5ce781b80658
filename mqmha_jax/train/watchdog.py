"""Says when the devices stand still because no batch comes, while it happens and not only afterwards."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mqmha_jax.train.metrics_log import MetricsLog

_LOGGER = logging.getLogger(__name__)


@contextmanager
def report_stall(seconds: float, step: int, log: MetricsLog) -> Iterator[None]:
    """While inside, a wait longer than ``seconds`` is reported; when it is over, its length is, and is logged.

    Args:
      seconds: how long a wait is no news.
      step: the step that waits.
      log: of the run.
    """
    alarm = threading.Timer(seconds, _LOGGER.warning, [_MESSAGE, seconds, step])
    alarm.daemon = True
    start = time.perf_counter()
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()
        waited = time.perf_counter() - start
        if waited > seconds:
            _LOGGER.warning("The batch of step %d came after %.0f s.", step, waited)
            log.note(step, "stall", {"seconds": round(waited, 3)})


_MESSAGE = (
    "No batch for %g s: step %d waits for data and the devices stand still. Is the storage of data.train slow, or are "
    "there too few data.num_workers?"
)
