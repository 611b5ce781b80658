"""Measurements for the log: means over the steps since the last line, and the memory in use."""

import resource
import sys
from collections import defaultdict
from collections.abc import Mapping

import jax
import numpy as np

# Functions of the step, and counts: the line holds their latest value.
_LATEST = ("learning_rate", "margin", "penalty", "skipped", "skipped_in_row")

_BYTES_PER_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class StepMeans:
    """Means over steps, computed on the host, which has the measurements of every step anyway: no wait for the devices.

    Non-finite steps, which change nothing, do not enter the means.
    """

    def __init__(self) -> None:
        self._latest: Mapping[str, np.ndarray] = {}
        self._begin()

    def add(self, metrics: Mapping[str, np.ndarray]) -> None:
        """Adds the measurements of one step."""
        self._latest = metrics
        if not int(metrics["skipped_in_row"]):
            self._count += 1
            for name, value in metrics.items():
                self._totals[name] += float(value)

    def take(self) -> dict[str, float]:
        """Returns the means since the last call, or the latest values if no step was finite."""
        means = {
            name: self._totals[name] / self._count if self._count and name not in _LATEST else float(value)
            for name, value in self._latest.items()
        }
        self._begin()
        return means

    def _begin(self) -> None:
        self._totals: defaultdict[str, float] = defaultdict(float)
        self._count = 0


def read_memory() -> dict[str, float]:
    """Reads the largest memory so far, in 10^9 bytes: of this process and, if it is known, of its first device."""
    on_device = jax.local_devices()[0].memory_stats() or {}
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _BYTES_PER_RSS_UNIT
    memory = {"host_memory_gb": largest / 1e9}
    if "peak_bytes_in_use" in on_device:
        memory["device_memory_gb"] = on_device["peak_bytes_in_use"] / 1e9
    return memory


def format_progress(values: Mapping[str, float]) -> dict[str, str]:
    """Formats the values that the progress bar shows."""
    return {
        "loss": f"{values['loss']:.3f}",
        "acc": f"{values['accuracy']:.1%}",
        "utt/s": f"{values['utterances_per_second']:.0f}",
        "data wait": f"{values['data_wait']:.1%}",
    }
