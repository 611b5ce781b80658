"""A compiled program as computations that call each other, and how often each of them runs."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from mqmha_jax.plan.hlo.text import Computation, HloNotUnderstoodError, Instruction, read_computations


class Program(NamedTuple):
    """The compiled program of one device.

    Attributes:
      computations: by name.
      entry: name of the computation that a call of the program runs.
      runs: how often each computation runs in one call: once per caller, times the trip counts of loops around it.
      unknown_loops: number of loops whose trip count is unknown; each counts as one pass.
      fused: computations that are part of one instruction, such as a fusion, and leave no trace in memory.
    """

    computations: dict[str, Computation]
    entry: str
    runs: dict[str, int]
    unknown_loops: int
    fused: frozenset[str]

    def instructions(self) -> Iterator[tuple[str, Instruction]]:
        """Yields every instruction that runs, with the name of its computation."""
        for name in self.runs:
            for instruction in self.computations[name].values():
                yield name, instruction


def parse_hlo(text: str) -> Program:
    """Reads ``compiled.as_text()``.

    Raises:
      HloNotUnderstoodError: the text is written in an unknown way.
    """
    computations, entry = read_computations(text)
    runs, unknown = _count_runs(computations, entry)
    fused = frozenset(
        called
        for computation in computations.values()
        for instruction in computation.values()
        if instruction.opcode not in ("while", "conditional", "call")
        for called in instruction.called
    )
    return Program(computations, entry, runs, unknown, fused)


def _count_runs(computations: dict[str, Computation], entry: str) -> tuple[dict[str, int], int]:
    runs: dict[str, int] = defaultdict(int)
    unknown = 0

    def visit(name: str, times: int) -> None:
        nonlocal unknown
        if name not in computations:
            raise HloNotUnderstoodError(f"the computation {name!r} is called, but not written")
        runs[name] += times
        for instruction in computations[name].values():
            trips = _trip_count(instruction, computations) if instruction.opcode == "while" else 1
            unknown += trips is None
            for called in instruction.called:
                visit(called, times * (trips or 1))

    visit(entry, 1)
    return dict(runs), unknown


def _trip_count(loop: Instruction, computations: dict[str, Computation]) -> int | None:
    """The compiler's note, else the constant of a condition ``counter < constant``, as a scan has it; None: unknown."""
    if loop.trip_count is not None:
        return loop.trip_count
    condition = computations.get(loop.called[0], {})
    root = next((instruction for instruction in condition.values() if instruction.is_root), None)
    if root is None:
        raise HloNotUnderstoodError(f"the loop {loop.name} has no condition")
    if root.opcode == "compare" and "direction=LT" in root.attributes:
        limit = condition[root.operands[1]]
        if limit.opcode == "constant" and limit.operands[0].isdecimal():
            return int(limit.operands[0])
    return None
