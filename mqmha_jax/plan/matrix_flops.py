"""FLOPs of the matrix products and convolutions of a compiled program, every pass of its loops included."""

import math

import numpy as np

from mqmha_jax.plan.hlo import Computation, Instruction, Program


def count_matrix_flops(program: Program) -> float:
    """Counts the FLOPs of one run of a program; XLA's own ``cost_analysis`` counts the body of a loop once.

    Elementwise arithmetic does not count: it runs beside the matrix units, whose speed the chip's peak is.
    """
    return sum(
        program.runs[name] * matrix_flops(instruction, program.computations[name])
        for name, instruction in program.instructions()
    )


def matrix_flops(instruction: Instruction, computation: Computation) -> float:
    """FLOPs of a ``dot`` or ``convolution``, 0 for others; as XLA does, it leaves out padding and gaps.

    Args:
      instruction: any instruction.
      computation: the computation that holds its operands.
    """
    if instruction.opcode == "dot":
        left = computation[instruction.operands[0]].result[0].dims
        summed = math.prod(left[axis] for axis in instruction.contracting_dims)
        return 2.0 * math.prod(instruction.result[0].dims) * summed
    if instruction.opcode == "convolution":
        return _convolution_flops(instruction, computation)
    return 0.0


def _convolution_flops(instruction: Instruction, computation: Computation) -> float:
    image_axes, kernel_axes, output_axes = instruction.dim_labels
    window = instruction.window
    image, kernel = (computation[name].result[0].dims for name in instruction.operands[:2])
    output = instruction.result[0].dims
    products = 1
    for axis in range(len(image) - 2):

        def field(name: str, default: int, axis: int = axis) -> int:
            return window[name][axis] if name in window else default

        # Pairs of output and kernel positions that meet a value of the image, not padding or a gap between values.
        at = np.arange(output[output_axes.index(str(axis))])[:, None] * field("stride", 1)
        at = at + np.arange(kernel[kernel_axes.index(str(axis))])[None, :] * field("rhs_dilate", 1)
        at = at - field("pad", 0)
        spacing = field("lhs_dilate", 1)
        last = (image[image_axes.index(str(axis))] - 1) * spacing
        products *= int(np.sum((at >= 0) & (at <= last) & (at % spacing == 0)))
    batch, features = output[output_axes.index("b")], output[output_axes.index("f")]
    return 2.0 * batch * features * kernel[kernel_axes.index("i")] * products
