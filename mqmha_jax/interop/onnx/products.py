"""Convolutions and products of matrices."""

from typing import Any

import numpy as np

from mqmha_jax.interop.onnx.graph import Operand, element_type
from mqmha_jax.interop.onnx.shapes import transpose
from mqmha_jax.interop.onnx.values import Context, Rule, Value

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _convolution(context: Context, equation: Any, inputs: list[Value]) -> Value:
    """ONNX's convolution has the channels before the positions, its kernels [out, in, ...]."""
    x, kernel = _of_one_type(context, equation, inputs)
    params, layout = equation.params, equation.params["dimension_numbers"]
    if any(step != 1 for step in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise NotImplementedError("a transposed convolution or groups of the batch")
    x, kernel = transpose(context, x, layout.lhs_spec), transpose(context, kernel, layout.rhs_spec)
    low, high = np.array(params["padding"]).T
    if (crop := np.minimum([low, high], 0)).any():  # a wide stride does not reach the last positions
        axes, end = np.arange(len(low)) + 2, np.iinfo(np.int64).max
        x = context.graph.add("Slice", x, -crop[0], np.where(crop[1] < 0, crop[1], end), axes)
    y = context.graph.add(
        "Conv",
        x,
        kernel,
        strides=list(params["window_strides"]),
        pads=[int(size) for size in np.maximum([low, high], 0).ravel()],
        dilations=list(params["rhs_dilation"]),
        group=params["feature_group_count"],
    )
    return Value(_as_result(context, equation, transpose(context, y, np.argsort(layout.out_spec))))


def _product(context: Context, equation: Any, inputs: list[Value]) -> Value:
    """A product of matrices where the axes allow it; otherwise Einstein's sum, which runtimes compute slower."""
    one, other = _of_one_type(context, equation, inputs)
    (sum_one, sum_other), (batch_one, batch_other) = equation.params["dimension_numbers"]
    rank_one, rank_other = (len(atom.aval.shape) for atom in equation.invars)
    free_one = [axis for axis in range(rank_one) if axis not in (*sum_one, *batch_one)]
    free_other = [axis for axis in range(rank_other) if axis not in (*sum_other, *batch_other)]
    batched = len(batch_one) > 0
    if len(sum_one) == 1 and len(free_other) == 1 and free_one and (len(free_one) == 1 or not batched):
        one = transpose(context, one, [*batch_one, *free_one, *sum_one])
        other = transpose(context, other, [*batch_other, *sum_other, *free_other])
        return Value(_as_result(context, equation, context.graph.add("MatMul", one, other)))
    letters = iter(_LETTERS)
    names_one = {axis: next(letters) for axis in range(rank_one)}
    shared = dict(zip([*sum_other, *batch_other], [names_one[axis] for axis in [*sum_one, *batch_one]], strict=True))
    names_other = {axis: shared.get(axis) or next(letters) for axis in range(rank_other)}
    result = [names_one[axis] for axis in [*batch_one, *free_one]] + [names_other[axis] for axis in free_other]
    terms = "".join(names_one.values()), "".join(names_other.values())
    sums = context.graph.add("Einsum", one, other, equation=f"{terms[0]},{terms[1]}->{''.join(result)}")
    return Value(_as_result(context, equation, sums))


def _of_one_type(context: Context, equation: Any, inputs: list[Value]) -> list[Operand]:
    """Returns the factors; of different types, which only JAX multiplies, both as the type of the result."""
    factors = context.full_inputs(equation, inputs)
    types = [atom.aval.dtype for atom in equation.invars]
    if types[0] == types[1]:
        return factors
    result = equation.outvars[0].aval.dtype
    return [
        factor if dtype == result else context.graph.add("Cast", factor, to=element_type(result))
        for factor, dtype in zip(factors, types, strict=True)
    ]


def _as_result(context: Context, equation: Any, x: Operand) -> Operand:
    """Casts what narrow factors give to the type that JAX asks for."""
    result = equation.outvars[0].aval.dtype
    types = {atom.aval.dtype for atom in equation.invars}
    return context.graph.add("Cast", x, to=element_type(result)) if types != {result} and len(types) == 1 else x


PRODUCTS: dict[str, Rule] = {"conv_general_dilated": _convolution, "dot_general": _product}
