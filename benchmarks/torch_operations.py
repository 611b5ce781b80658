"""Profiles PyTorch code on a CPU and sums its seconds by kind of operation."""

import collections
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

# The first kind whose name is part of the operator's name counts.
_KINDS = {
    "convolution_backward": "convolution, both gradients",
    "convolution": "convolution, forward",
    "batch_norm": "batch normalisation",
    "mm": "matrix product",
    "sgd": "optimizer",
    "copy_": "copy",
    "relu": "relu",
    "threshold": "relu",
}


def operation_seconds(run: Callable[[], object]) -> dict[str, float]:
    """Measures where the time goes.

    Args:
      run: the work.

    Returns:
      Seconds by kind. An operator's time excludes the operators that it calls.
    """
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    seconds: dict[str, float] = collections.defaultdict(float)
    for operator in profiled.key_averages():
        kind = next((kind for part, kind in _KINDS.items() if part in operator.key), "other")
        seconds[kind] += operator.self_cpu_time_total / 1e6
    return dict(seconds)
