"""Measures the wall time of the loop: throughput, and the shares spent waiting for data and for the device."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class _Spent(NamedTuple):
    """Steps done; seconds spent in all, and waiting."""

    steps: float = 0.0
    seconds: float = 0.0
    for_data: float = 0.0
    for_device: float = 0.0


class Clock:
    """Measures the loop without its evaluations."""

    def __init__(self, batch_size: int) -> None:
        """Starts measuring.

        Args:
          batch_size: utterances per step.
        """
        self._batch_size = batch_size
        self._spent = self._mark = _Spent()
        self._running_since = time.perf_counter()
        self._compiled = False

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Counts the time inside as waiting for a batch."""
        start = time.perf_counter()
        yield
        self._add(for_data=time.perf_counter() - start)

    @contextmanager
    def waiting_for_device(self) -> Iterator[None]:
        """Counts the time inside as waiting for the device, which is then the bottleneck."""
        start = time.perf_counter()
        yield
        self._add(for_device=time.perf_counter() - start)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time inside."""
        self._tick()
        yield
        self._running_since = time.perf_counter()

    def count_step(self) -> None:
        """Counts a step. The first one compiles, so the clock starts after it."""
        self._tick()
        self._add(steps=1.0)
        if not self._compiled:
            self._compiled = True
            self._spent = self._mark = _Spent()

    def rates(self) -> dict[str, float]:
        """Returns utterances per second and the shares of waiting, since the last call."""
        since = _Spent(*(now - then for now, then in zip(self._spent, self._mark, strict=True)))
        self._mark = self._spent
        seconds = max(since.seconds, 1e-9)
        return {
            "utterances_per_second": since.steps * self._batch_size / seconds,
            "data_wait": since.for_data / seconds,
            "device_wait": since.for_device / seconds,
        }

    @property
    def data_wait(self) -> float:
        """Share of the loop's time spent waiting for a batch."""
        return self._spent.for_data / self._spent.seconds if self._spent.seconds else 0.0

    def _tick(self) -> None:
        now = time.perf_counter()
        self._add(seconds=now - self._running_since)
        self._running_since = now

    def _add(self, **more: float) -> None:
        self._spent = self._spent._replace(**{name: getattr(self._spent, name) + x for name, x in more.items()})
