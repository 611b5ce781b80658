"""Finds the collectives of a compiled program: the bytes that each chip sends, and the least time for it."""

import dataclasses
import math

import numpy as np
from jaxtyping import Int

from mqmha_jax.plan.hlo import HloNotUnderstoodError, Program, read_groups
from mqmha_jax.plan.topology import Topology

_COLLECTIVE_PREFIXES = ("all-", "collective-", "ragged-", "reduce-scatter")
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

HOP_SECONDS = 1e-6
"""Time of the shortest message to a neighbour (Austin et al., "How to Scale Your Model", 2025, part 3)."""


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of the program.

    Attributes:
      kind: one of ``KINDS``.
      operand_bytes: bytes that each chip contributes.
      members: chips that take part together, by position in the mesh; the first group stands for all.
      runs: number of runs in one step.
      overlaps: True if two instructions start and await it, so that other work may run in between.
    """

    kind: str
    operand_bytes: int
    members: tuple[int, ...]
    runs: int = 1
    overlaps: bool = False

    @property
    def sent_bytes(self) -> float:
        """Bytes that a chip sends in one run on a ring of n members.

        All-reduce 2 (n-1)/n of its operand (a reduce-scatter and an all-gather), reduce-scatter and all-to-all (n-1)/n,
        all-gather n-1 operands, permute and broadcast one.
        """
        n = len(self.members)
        share = {
            "all-reduce": 2 * (n - 1) / n,
            "reduce-scatter": (n - 1) / n,
            "all-to-all": (n - 1) / n,
            "all-gather": n - 1,
        }.get(self.kind, 1 if n > 1 else 0)
        return float(self.operand_bytes * share)


def find_collectives(program: Program, num_devices: int) -> list[Collective]:
    """Finds every collective of a step between several devices; a start and its done are one.

    Args:
      program: the compiled step.
      num_devices: number of devices of the program.

    Raises:
      HloNotUnderstoodError: a collective of an unknown kind, or groups in an unknown form.
    """
    awaited = {
        called
        for _, instruction in program.instructions()
        if instruction.opcode == "async-start"
        for called in instruction.called
    }
    found = []
    for name, instruction in program.instructions():
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            if kind.startswith(_COLLECTIVE_PREFIXES) and not kind.endswith("-done"):
                raise HloNotUnderstoodError(f"unknown collective {kind!r}; known: {', '.join(KINDS)}")
            continue
        members = tuple(int(member) for member in read_groups(instruction.attributes, num_devices)[0])
        if len(members) > 1:
            found.append(
                Collective(
                    kind=kind,
                    operand_bytes=sum(program.computations[name][operand].bytes for operand in instruction.operands),
                    members=members,
                    runs=program.runs[name],
                    overlaps=instruction.opcode.endswith("-start") or name in awaited,
                )
            )
    return found


def collective_seconds(collective: Collective, topology: Topology, coordinates: Int[np.ndarray, "N axes"]) -> float:
    """Computes the least time of one run of a collective.

    ``max(sent / (links x link bandwidth), hops x 1 us)``. The members span some axes of the slice. Along each of them a
    chip has two links on a ring and one on a line, and the farthest member is half a ring or a line away (an all-reduce
    goes there and back).

    Args:
      collective: a collective of the program.
      topology: the slice.
      coordinates: positions of its chips along its axes, in the order of the mesh.
    """
    places = coordinates[list(collective.members)]
    links = hops = 0
    for axis, (length, wraps) in enumerate(zip(topology.shape, topology.wraps, strict=True)):
        span = int(np.ptp(places[:, axis]))
        if span == 0:
            continue
        ring = wraps and span == length - 1 and length > 2
        links += 2 if ring else 1
        hops += math.ceil(length / 2) if ring else span
    if collective.kind == "all-reduce":
        hops *= 2
    return max(collective.sent_bytes / (max(links, 1) * topology.chip.link_bandwidth), hops * HOP_SECONDS)
