"""FLOPs of the matrix products and convolutions of a compiled program, every pass of its loops included."""

import math
import re
from collections.abc import Callable

import numpy as np

from mqmha_jax.plan.hlo import Computation, Instruction, Program

_DIM_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_CONTRACTING = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_WINDOW = re.compile(r"window=\{([^}]*)\}")


def count_matrix_flops(program: Program) -> float:
    """FLOPs per run of a program; XLA's own ``cost_analysis`` counts the body of a loop once.

    Element-wise arithmetic is left out: it runs beside the matrix units, whose speed the chip's peak is.
    """
    return sum(
        program.runs[name] * matrix_flops(instruction, program.computations[name])
        for name, instruction in program.instructions()
    )


def matrix_flops(instruction: Instruction, computation: Computation) -> float:
    """FLOPs of a ``dot`` or ``convolution``, 0 of others; as XLA counts them, padding and gaps left out.

    Args:
      instruction: any.
      computation: in which its operands are found.
    """
    if instruction.opcode == "dot":
        left = computation[instruction.operands[0]].result[0].dims
        contracted = _CONTRACTING.search(instruction.attributes)
        shared = re.findall(r"\d+", contracted[1]) if contracted else []
        return 2.0 * math.prod(instruction.result[0].dims) * math.prod(left[int(axis)] for axis in shared)
    if instruction.opcode == "convolution":
        return _convolution_flops(instruction, computation)
    return 0.0


def _convolution_flops(instruction: Instruction, computation: Computation) -> float:
    labels = _DIM_LABELS.search(instruction.attributes)
    assert labels is not None
    window = _window(instruction)
    image, kernel = (computation[name].result[0].dims for name in instruction.operands[:2])
    output = instruction.result[0].dims
    products = 1
    for axis in range(len(image) - 2):
        # Pairs of output and kernel position that meet a value of the image, not padding or a gap between values.
        at = np.arange(output[labels[3].index(str(axis))])[:, None] * window("stride", axis, 1)
        at = at + np.arange(kernel[labels[2].index(str(axis))])[None, :] * window("rhs_dilate", axis, 1)
        at = at - window("pad", axis, 0)
        spacing = window("lhs_dilate", axis, 1)
        last = (image[labels[1].index(str(axis))] - 1) * spacing
        products *= int(np.sum((at >= 0) & (at <= last) & (at % spacing == 0)))
    batch, features = output[labels[3].index("b")], output[labels[3].index("f")]
    return 2.0 * batch * features * kernel[labels[2].index("i")] * products


def _window(instruction: Instruction) -> Callable[[str, int, int], int]:
    """Of ``window={size=3x3 stride=2x2 pad=1_1x1_1}``: field, axis and default -> number; of padding the lower one."""
    match = _WINDOW.search(instruction.attributes)
    fields = dict(item.split("=") for item in match[1].split()) if match else {}

    def number(field: str, axis: int, default: int) -> int:
        return int(fields[field].split("x")[axis].split("_")[0]) if field in fields else default

    return number
