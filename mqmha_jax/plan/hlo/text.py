"""Lines of a compiled XLA program as instructions with typed fields."""

import functools
import math
import re
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
_WINDOW_FIELD = re.compile(r"(\w+)=([\w\-]+)")


class HloNotUnderstoodError(ValueError):
    """The text of a compiled program is written in a way that this version cannot read; the message quotes it."""


class Buffer(NamedTuple):
    """An array of the program.

    Attributes:
      type: XLA's name, e.g. ``bf16``.
      dims: its shape.
      in_hbm: True in the device's main memory, False in the small memory beside the arithmetic.
      padded_dims: its shape in memory, where a TPU's layout fills whole tiles; without tiles equal to ``dims``.
    """

    type: str
    dims: tuple[int, ...]
    in_hbm: bool
    padded_dims: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size without padding."""
        return math.prod(self.dims) * _bits(self.type) // 8

    @property
    def padded_bytes(self) -> int:
        """Size in memory."""
        return math.prod(self.padded_dims) * _bits(self.type) // 8


class Instruction(NamedTuple):
    """One line: ``%name = result opcode(operands), attributes``.

    Attributes:
      name: unique in the program.
      result: the array, or the arrays of a tuple; nested tuples are flat, in order.
      opcode: e.g. ``all-reduce-start``.
      operands: names of instructions of the same computation; a parameter holds its number, a constant its value.
      attributes: the rest of the line.
      is_root: True if its result is the computation's result.
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
        """Size, with padding, of the part of the result that lies in main memory."""
        return sum(buffer.padded_bytes for buffer in self.result if buffer.in_hbm)

    @property
    def cycles(self) -> int:
        """The TPU compiler's estimate of its cycles; 0 where the compiler gives none."""
        estimate = _CYCLES.search(self.attributes)
        return int(estimate[1]) if estimate else 0

    @property
    def trip_count(self) -> int | None:
        """How often a loop runs, where the compiler wrote it down."""
        trips = _TRIPS.search(self.attributes)
        return int(trips[1]) if trips else None

    @property
    def called(self) -> list[str]:
        """Names of the computations that it runs."""
        names = [match[2] for match in _CALLED.finditer(self.attributes)]
        branches = _BRANCHES.search(self.attributes)
        return names + (re.findall(r"[\w.\-]+", branches[1]) if branches else [])

    @property
    def contracting_dims(self) -> list[int]:
        """The axes of a ``dot``'s left operand that it sums over."""
        dims = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", self.attributes)
        return [int(axis) for axis in re.findall(r"\d+", dims[1])] if dims else []

    @property
    def dim_labels(self) -> tuple[str, str, str]:
        """Axes of a convolution's image, kernel and result: b, f, i, o, or the number of a spatial axis."""
        labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", self.attributes)
        if labels is None:
            raise HloNotUnderstoodError(f"the convolution {self.name} has no dim_labels: {self.attributes[:120]!r}")
        return labels[1], labels[2], labels[3]

    @property
    def window(self) -> dict[str, list[int]]:
        """Fields of a convolution's ``window={size=3x3 stride=2x2 pad=1_1x0_2}``, a number per spatial axis.

        Of ``pad``, this is the padding before the first element.
        """
        window = re.search(r"window=\{([^}]*)\}", self.attributes)
        fields = _WINDOW_FIELD.findall(window[1]) if window else []
        return {name: [int(axis.split("_")[0]) for axis in text.split("x")] for name, text in fields}


Computation = dict[str, Instruction]


def read_computations(text: str) -> tuple[dict[str, Computation], str]:
    """Reads ``compiled.as_text()``.

    Returns:
      The computations by name, and the name of the entry.

    Raises:
      HloNotUnderstoodError: a line inside a computation is no instruction, or there is no entry.
    """
    computations: dict[str, Computation] = {}
    inside: Computation | None = None  # outside there are tables of file names, which are of no interest
    entry = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            inside = computations[header["name"]] = {}
            entry = header["name"] if header["entry"] else entry
        elif line.startswith("}"):
            inside = None
        elif inside is not None and line.strip():
            try:
                instruction = _read_instruction(line)
            except (ValueError, KeyError, IndexError) as error:
                raise HloNotUnderstoodError(f"line {number} is not an instruction: {line.strip()[:120]!r}") from error
            inside[instruction.name] = instruction
    if not entry:
        raise HloNotUnderstoodError(f"the text has no entry; it begins with {text[:120]!r}")
    return computations, entry


def _read_instruction(line: str) -> Instruction:
    match = _INSTRUCTION.match(line)
    if match is None:
        raise ValueError("no name")
    rest = match["rest"]
    end = _find_closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    opening = rest.index("(", end)
    closing = _find_closing(rest, opening)
    opcode = rest[end:opening].strip()
    inside = rest[opening + 1 : closing]
    return Instruction(
        name=match["name"],
        result=tuple(_read_buffer(buffer) for buffer in _BUFFER.finditer(rest[:end])),
        opcode=opcode,
        operands=(inside,) if opcode in ("parameter", "constant") else tuple(_NAME.findall(inside)),
        attributes=rest[closing + 1 :],
        is_root=bool(match["root"]),
    )


def _read_buffer(match: re.Match[str]) -> Buffer:
    dims = tuple(int(size) for size in re.findall(r"\d+", match["dims"]))
    layout = match["layout"] or ""
    _bits(match["type"])  # an unknown type is an error here, where its line is known
    return Buffer(match["type"], dims, not _FAST_MEMORY.search(layout), _pad_to_tiles(dims, layout))


def _pad_to_tiles(dims: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Rounds a shape up to whole tiles; e.g. ``{0,1:T(8,128)}`` rounds the first axis to 128 and the second to 8."""
    match = _TILE.match(layout)
    if match is None:
        return dims
    padded = list(dims)
    minor_first = [int(axis) for axis in match["order"].split(",") if axis]
    tile = [int(size) for size in match["tile"].split(",")]
    for axis, size in zip(minor_first, reversed(tile), strict=False):
        padded[axis] = -(-dims[axis] // size) * size
    return tuple(padded)


@functools.cache
def _bits(type_name: str) -> int:
    if type_name in ("token", "opaque"):  # no array
        return 0
    if type_name == "pred":
        return 8
    bits = re.match(r"[a-z]+(\d+)", type_name)
    if bits is None:
        raise ValueError(f"unknown type {type_name!r}")
    return int(bits[1])


def _find_closing(text: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ValueError("no closing parenthesis")
