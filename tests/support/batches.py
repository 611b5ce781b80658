"""Replaces the batches of a run, so that tests can stop, watch or spoil it at a step."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mqmha_jax.train import batches as training_data
from mqmha_jax.types import Batch


def change_batches(patch: pytest.MonkeyPatch, change: Callable[[int, Batch], Batch]) -> None:
    """Passes every batch of later runs through ``change(step, batch)``, just before its step."""
    make = training_data.train_batches

    class Changed:
        def __init__(self, *data: Any, **options: Any) -> None:
            self._batches, self._step = make(*data, **options), options["first_step"]

        def __iter__(self) -> Iterator[Batch]:
            return self

        def __next__(self) -> Batch:
            batch = next(self._batches)
            self._step += 1
            return change(self._step, batch)

        def close(self) -> None:
            self._batches.close()

    patch.setattr(training_data, "train_batches", Changed)


def stop_at(patch: pytest.MonkeyPatch, last_step: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Sends a signal to end the run just before a step, which becomes its last."""

    def change(step: int, batch: Batch) -> Batch:
        if step == last_step:
            signal.raise_signal(number)
        return batch

    change_batches(patch, change)
