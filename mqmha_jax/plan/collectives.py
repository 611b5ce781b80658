"""The collectives of a compiled program: what each chip sends to others, and the least time that takes."""

import dataclasses
import math

import numpy as np
from jaxtyping import Int

from mqmha_jax.plan.groups import replica_groups
from mqmha_jax.plan.hlo import Program
from mqmha_jax.plan.topology import Topology

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

HOP_SECONDS = 1e-6
"""A message's way to a neighbour, however short (Austin et al., "How to Scale Your Model", 2025, part 3)."""


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of the program.

    Attributes:
      kind: one of ``KINDS``.
      operand_bytes: what each chip brings.
      members: chips that take part together, by position in the mesh; the first group stands for all.
      runs: how often in one step.
      overlaps: started and awaited by two instructions, so that other work may run in between.
    """

    kind: str
    operand_bytes: int
    members: tuple[int, ...]
    runs: int = 1
    overlaps: bool = False

    @property
    def sent_bytes(self) -> float:
        """What a chip sends each time on a ring of n members.

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
    """Every collective of a step that involves more than one device; start and done are one.

    Args:
      program: the compiled step.
      num_devices: that it runs on.
    """
    awaited = {
        called
        for _, instruction in program.instructions()
        if instruction.opcode == "async-start"
        for called in instruction.called()
    }
    found = []
    for name, instruction in program.instructions():
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        members = tuple(int(member) for member in replica_groups(instruction.attributes, num_devices)[0])
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
    """The least time of one run of a collective.

    ``max(sent / (links x link bandwidth), hops x 1 us)``. The members span some axes of the slice; along each of them a
    chip has two links where the axis is a ring and one where it is a line, and the farthest member is half a ring or a
    line away (an all-reduce goes there and back).

    Args:
      collective: of the program.
      topology: the slice.
      coordinates: of its chips along its axes, in the order of the mesh.
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
