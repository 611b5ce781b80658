"""Seconds by kind of operation of PyTorch code on a CPU, from a profile of it."""

import collections
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

# The first whose name is part of the operator's.
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
    """Where the time goes.

    Args:
      run: the work.

    Returns:
      Seconds by kind, of the operators themselves without those that they call.
    """
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    seconds: dict[str, float] = collections.defaultdict(float)
    for operator in profiled.key_averages():
        kind = next((kind for part, kind in _KINDS.items() if part in operator.key), "other")
        seconds[kind] += operator.self_cpu_time_total / 1e6
    return dict(seconds)
