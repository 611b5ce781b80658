"""Computes the time of a step: bounds from the chip's published figures, and the compiler's own estimate."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from mqmha_jax.plan.chips import Chip
from mqmha_jax.plan.collectives import Collective, collective_seconds
from mqmha_jax.plan.compiled import CompiledStep
from mqmha_jax.plan.topology import Topology


@dataclasses.dataclass(frozen=True)
class Traffic:
    """All collectives of one kind in a step.

    Attributes:
      kind: e.g. ``all-reduce``.
      group_size: chips that take part together.
      overlaps: True if other work may run meanwhile.
      count: number of collectives.
      operand_bytes: bytes that a chip contributes to all of them.
      sent_bytes: bytes that a chip sends.
      seconds: their least time, one after another.
    """

    kind: str
    group_size: int
    overlaps: bool
    count: int
    operand_bytes: int
    sent_bytes: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Seconds of one step on every chip.

    Attributes:
      compute: matrix FLOPs at the chip's bfloat16 peak.
      memory: traffic of main memory at its bandwidth.
      cycles: the compiler's estimate for the arithmetic as scheduled; 0: none.
      exposed: collectives that everything else waits for.
      overlapped: collectives that may run beside other work.
    """

    compute: float
    memory: float
    cycles: float
    exposed: float
    overlapped: float

    @property
    def busy(self) -> float:
        """The roofline without the network: no chip can be faster."""
        return max(self.compute, self.memory)

    @property
    def bound(self) -> float:
        """The roofline: ``max(compute, memory, overlapped) + exposed``. No run is faster; most are slower."""
        return max(self.busy, self.overlapped) + self.exposed

    @property
    def estimate(self) -> float:
        """The bound with the compiler's estimate of the arithmetic: ``max(cycles, busy, overlapped) + exposed``."""
        return max(self.cycles, self.busy, self.overlapped) + self.exposed

    @property
    def efficiency(self) -> float:
        """The share of the estimate in which the chip does its own work: what collectives leave of linear scaling."""
        return max(self.cycles, self.busy) / self.estimate


def compute_step_time(step: CompiledStep, traffic: Sequence[Traffic], chip: Chip) -> StepTime | None:
    """Computes the times of a step; None if it does not fit or its text is not understood.

    Args:
      step: the compiler's answer.
      traffic: its collectives.
      chip: a chip of the slice.
    """
    if not step.fits or step.not_understood:
        return None
    return StepTime(
        compute=step.matrix_flops / chip.peak_flops,
        memory=step.hbm_bytes / chip.hbm_bandwidth,
        cycles=step.cycles / chip.clock_hz,
        exposed=math.fsum(item.seconds for item in traffic if not item.overlaps),
        overlapped=math.fsum(item.seconds for item in traffic if item.overlaps),
    )


def sum_traffic(
    collectives: Sequence[Collective], topology: Topology, coordinates: Int[np.ndarray, "N axes"]
) -> tuple[Traffic, ...]:
    """Adds up the collectives of a step by kind, group and overlap, the slowest first.

    Args:
      collectives: collectives of the compiled step.
      topology: the slice.
      coordinates: positions of its chips along its axes, in the order of the mesh.
    """
    kinds: dict[tuple[str, int, bool], list[Collective]] = defaultdict(list)
    for item in collectives:
        kinds[item.kind, len(item.members), item.overlaps].append(item)
    sums = [
        Traffic(
            kind=kind,
            group_size=size,
            overlaps=overlaps,
            count=sum(item.runs for item in items),
            operand_bytes=sum(item.runs * item.operand_bytes for item in items),
            sent_bytes=math.fsum(item.runs * item.sent_bytes for item in items),
            seconds=math.fsum(item.runs * collective_seconds(item, topology, coordinates) for item in items),
        )
        for (kind, size, overlaps), items in kinds.items()
    ]
    return tuple(sorted(sums, key=lambda item: -item.seconds))
