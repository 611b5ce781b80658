"""The text of a compiled XLA program as data: computations, their instructions, and how often each of them runs."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

_BUFFER = re.compile(r"(?P<type>[a-z]\w*)\[(?P<dims>[^\]]*)\](\{(?P<layout>[^}]*)\})?")
_HEADER = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_NAME = re.compile(r"%([\w.\-]+)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_FAST_MEMORY = re.compile(r"S\([1-9]\d*\)")
_TILE = re.compile(r"(?P<order>[\d,]*):T\((?P<tile>[\d,]+)\)")


class Buffer(NamedTuple):
    """An array of the program.

    Attributes:
      type: XLA's name, e.g. ``bf16``.
      dims: its shape.
      in_hbm: lies in the device's main memory and not in a small memory beside the arithmetic.
      padded_dims: its shape in memory, which the tiles of a TPU's layout fill up; without tiles the same.
    """

    type: str
    dims: tuple[int, ...]
    in_hbm: bool = True
    padded_dims: tuple[int, ...] | None = None

    @property
    def bytes(self) -> int:
        """Size without padding."""
        return self._size(self.dims)

    @property
    def padded_bytes(self) -> int:
        """Size in memory."""
        return self._size(self.dims if self.padded_dims is None else self.padded_dims)

    def _size(self, dims: tuple[int, ...]) -> int:
        if self.type == "pred":
            return math.prod(dims)
        bits = re.match(r"[a-z]+(\d+)", self.type)  # token and opaque have no size
        return math.prod(dims) * int(bits[1]) // 8 if bits else 0


class Instruction(NamedTuple):
    """One line: ``%name = result opcode(operands), attributes``.

    Attributes:
      name: unique in the program.
      result: the array, or the arrays of a tuple, nested ones in order.
      opcode: e.g. ``all-reduce-start``.
      operands: names of instructions of the same computation; of a parameter its number, of a
        constant its value.
      attributes: the rest of the line.
      is_root: its result is that of the computation.
    """

    name: str
    result: tuple[Buffer, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @property
    def bytes(self) -> int:
        """Size of the result."""
        return sum(buffer.bytes for buffer in self.result)

    @property
    def padded_bytes(self) -> int:
        """Size of the result in memory."""
        return sum(buffer.padded_bytes for buffer in self.result)

    @property
    def hbm_bytes(self) -> int:
        """Size, with padding, of that part of the result which lies in main memory."""
        return sum(buffer.padded_bytes for buffer in self.result if buffer.in_hbm)

    @property
    def cycles(self) -> int:
        """The TPU compiler's estimate of what it takes; 0 where it gives none."""
        estimate = _CYCLES.search(self.attributes)
        return int(estimate[1]) if estimate else 0

    def called(self) -> list[str]:
        """Names of the computations that it runs."""
        names = [match[2] for match in _CALLED.finditer(self.attributes)]
        branches = _BRANCHES.search(self.attributes)
        return names + (re.findall(r"[\w.\-]+", branches[1]) if branches else [])


Computation = dict[str, Instruction]


class Program(NamedTuple):
    """A compiled program of one device.

    Attributes:
      computations: by name.
      entry: the name of the one that is run.
      runs: how often each runs in one call of the program: once per caller, times the trip count of loops around it.
      unknown_loops: loops whose trip count the compiler does not know; they count as one pass.
      fused: computations that are part of one instruction, e.g. of a fusion, and leave no trace in memory.
    """

    computations: dict[str, Computation]
    entry: str
    runs: dict[str, int]
    unknown_loops: int
    fused: frozenset[str]

    def instructions(self) -> Iterator[tuple[str, Instruction]]:
        """Name of the computation and instruction, of all that run."""
        for name in self.runs:
            for instruction in self.computations[name].values():
                yield name, instruction


def parse_hlo(text: str) -> Program:
    """Reads ``compiled.as_text()``."""
    computations: dict[str, Computation] = {}
    entry = name = ""
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            name = header["name"]
            computations[name] = {}
            entry = name if header["entry"] else entry
            continue
        match = _INSTRUCTION.match(line)
        if match and name:
            instruction = _instruction(match["name"], match["rest"], is_root=bool(match["root"]))
            computations[name][instruction.name] = instruction
    runs, unknown = _count_runs(computations, entry)
    fused = frozenset(
        called
        for computation in computations.values()
        for instruction in computation.values()
        if instruction.opcode not in ("while", "conditional", "call")
        for called in instruction.called()
    )
    return Program(computations, entry, runs, unknown, fused)


def _instruction(name: str, rest: str, *, is_root: bool) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    result = tuple(_buffer(match) for match in _BUFFER.finditer(rest[:end]))
    opening = rest.index("(", end)
    closing = _closing(rest, opening)
    opcode = rest[end:opening].strip()
    inside = rest[opening + 1 : closing]
    return Instruction(
        name=name,
        result=result,
        opcode=opcode,
        operands=(inside,) if opcode in ("parameter", "constant") else tuple(_NAME.findall(inside)),
        attributes=rest[closing + 1 :],
        is_root=is_root,
    )


def _buffer(match: re.Match[str]) -> Buffer:
    dims = tuple(int(size) for size in re.findall(r"\d+", match["dims"]))
    layout = match["layout"] or ""
    return Buffer(match["type"], dims, not _FAST_MEMORY.search(layout), _padded(dims, layout))


def _padded(dims: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """The shape that whole tiles cover; e.g. ``{0,1:T(8,128)}`` rounds the first axis to 128 and the second to 8."""
    match = _TILE.match(layout)
    if match is None:
        return dims
    padded = list(dims)
    minor_first = [int(axis) for axis in match["order"].split(",") if axis]
    tile = [int(size) for size in match["tile"].split(",")]
    for axis, size in zip(minor_first, reversed(tile), strict=False):
        padded[axis] = -(-dims[axis] // size) * size
    return tuple(padded)


def _closing(text: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ValueError(f"no closing parenthesis in {text[:80]!r}")


def _count_runs(computations: dict[str, Computation], entry: str) -> tuple[dict[str, int], int]:
    runs: dict[str, int] = defaultdict(int)
    unknown = 0

    def visit(name: str, times: int) -> None:
        nonlocal unknown
        runs[name] += times
        for instruction in computations[name].values():
            trips = _trip_count(instruction, computations) if instruction.opcode == "while" else 1
            unknown += trips is None
            for called in instruction.called():
                visit(called, times * (trips or 1))

    visit(entry, 1)
    return dict(runs), unknown


def _trip_count(loop: Instruction, computations: dict[str, Computation]) -> int | None:
    """As annotated, or from a condition ``counter < constant``, as that of a scan; None: unknown."""
    annotated = _TRIPS.search(loop.attributes)
    if annotated:
        return int(annotated[1])
    condition = computations[loop.called()[0]]
    root = next(instruction for instruction in condition.values() if instruction.is_root)
    if root.opcode == "compare" and "direction=LT" in root.attributes:
        limit = condition[root.operands[1]]
        if limit.opcode == "constant" and limit.operands[0].isdecimal():
            return int(limit.operands[0])
    return None
