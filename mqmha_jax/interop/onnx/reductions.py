"""Primitives that reduce axes."""

from typing import Any

import numpy as np

from mqmha_jax.interop.onnx.graph import element_type
from mqmha_jax.interop.onnx.values import Context, Rule, Value


def _reduction(kind: str) -> Rule:
    def rule(context: Context, equation: Any, inputs: list[Value]) -> Value:
        (x,) = context.full_inputs(equation, inputs)
        axes = np.asarray(equation.params["axes"], np.int64)
        return Value(context.graph.add(kind, x, axes, keepdims=0) if len(axes) else x)

    return rule


def _truth(kind: str) -> Rule:
    """All and any, as the smallest and the largest of zeros and ones."""

    def rule(context: Context, equation: Any, inputs: list[Value]) -> Value:
        if equation.invars[0].aval.dtype != np.bool_:
            raise NotImplementedError("bits of integers")
        (x,) = context.full_inputs(equation, inputs)
        numbers = context.graph.add("Cast", x, to=element_type(np.int32))
        reduced = context.graph.add(kind, numbers, np.asarray(equation.params["axes"], np.int64), keepdims=0)
        return Value(context.graph.add("Cast", reduced, to=element_type(np.bool_)))

    return rule


def _argument(kind: str) -> Rule:
    def rule(context: Context, equation: Any, inputs: list[Value]) -> Value:
        (x,) = context.full_inputs(equation, inputs)
        (axis,) = equation.params["axes"]
        place = context.graph.add(kind, x, axis=axis, keepdims=0)
        return Value(context.graph.add("Cast", place, to=element_type(equation.params["index_dtype"])))

    return rule


def _cumulative_sum(context: Context, equation: Any, inputs: list[Value]) -> Value:
    (x,) = context.full_inputs(equation, inputs)
    axis, reverse = np.asarray(equation.params["axis"], np.int64), int(equation.params["reverse"])
    return Value(context.graph.add("CumSum", x, axis, reverse=reverse))


REDUCTIONS: dict[str, Rule] = {
    "reduce_sum": _reduction("ReduceSum"),
    "reduce_max": _reduction("ReduceMax"),
    "reduce_min": _reduction("ReduceMin"),
    "reduce_prod": _reduction("ReduceProd"),
    "reduce_and": _truth("ReduceMin"),
    "reduce_or": _truth("ReduceMax"),
    "argmax": _argument("ArgMax"),
    "argmin": _argument("ArgMin"),
    "cumsum": _cumulative_sum,
}
