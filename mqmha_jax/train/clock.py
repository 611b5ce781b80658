"""Where the wall time of the loop goes: throughput and the share spent waiting for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Measures the loop; evaluations are left out."""

    def __init__(self, batch_size: int) -> None:
        """Start measuring.

        Args:
          batch_size: utterances per step.
        """
        self._batch_size = batch_size
        self._seconds = self._waited = 0.0
        self._steps = 0
        self._mark: tuple[int, float, float] = (0, 0.0, 0.0)
        self._running_since = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent inside is time without a batch."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside does not count."""
        self._seconds += time.perf_counter() - self._running_since
        yield
        self._running_since = time.perf_counter()

    def count_step(self) -> None:
        """One more step is done. The first one compiles: the clock starts after it."""
        now = time.perf_counter()
        self._seconds += now - self._running_since
        self._running_since = now
        self._steps += 1
        if self._steps == 1:
            self._seconds = self._waited = 0.0
            self._mark = (1, 0.0, 0.0)

    def rates(self) -> dict[str, float]:
        """Utterances per second and data-wait share since the last call."""
        steps, seconds, waited = self._mark
        self._mark = (self._steps, self._seconds, self._waited)
        elapsed = max(self._seconds - seconds, 1e-9)
        return {
            "utterances_per_second": (self._steps - steps) * self._batch_size / elapsed,
            "data_wait": (self._waited - waited) / elapsed,
        }

    @property
    def data_wait(self) -> float:
        """Share of the whole loop's time that was spent waiting for a batch."""
        return self._waited / self._seconds if self._seconds else 0.0
