"""Profiles a compiled program on a CPU and sums its seconds by kind of operation."""

import collections
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
from jax.profiler import ProfileData

from mqmha_jax.plan.hlo import Instruction, Program, parse_hlo

_LARGEST_KERNEL = 8  # a convolution with a larger window is a weight gradient, whose window is the image


def operation_seconds(hlo: str, run: Callable[[], object]) -> dict[str, float]:
    """Measures where the time goes.

    Args:
      hlo: text of the compiled program.
      run: runs the program to the end, any number of times.

    Returns:
      Seconds by kind. Operations run at the same time, so the sum can exceed the elapsed time.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        profile = ProfileData.from_file(str(next(Path(folder).rglob("*.xplane.pb"))))
    program = parse_hlo(hlo)
    kinds = {name: _kind(instruction, program) for name, instruction in program.computations[program.entry].items()}
    seconds: dict[str, float] = collections.defaultdict(float)
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                operation = dict(event.stats).get("hlo_op")
                if operation in kinds:  # other operations run inside these, in the body of a loop
                    seconds[kinds[operation]] += event.duration_ns / 1e9
    return dict(seconds)


def _kind(instruction: Instruction, program: Program) -> str:
    """Returns the kind of an instruction of the entry computation, by the operations inside it."""
    inside = [instruction, *(part for name in instruction.called for part in program.computations[name].values())]
    opcodes = {part.opcode for part in inside}
    for part in inside:
        if part.opcode == "convolution":
            return _kind_of_convolution(part)
    if "dot" in opcodes:
        return "matrix product"
    if instruction.name.startswith(("transpose", "copy")):
        return "element-wise, into another layout"
    return "reduction" if opcodes & {"reduce", "reduce-window"} else "element-wise"


def _kind_of_convolution(convolution: Instruction) -> str:
    window = convolution.attributes.partition("window={size=")[2].partition(" ")[0].partition("}")[0]
    if max(int(size) for size in window.split("x")) > _LARGEST_KERNEL:
        return "convolution, weight gradient"
    return "convolution, input gradient" if "transpose(" in convolution.attributes else "convolution, forward"
