"""Primitives that work on each element alone."""

from functools import partial
from typing import Any

import numpy as np

from mqmha_jax.interop.onnx.graph import element_type
from mqmha_jax.interop.onnx.values import Context, Rule, Value, scalar


def _apply(context: Context, equation: Any, inputs: list[Value], *, build: Any) -> Value:
    """Computes a function of graph and operands; they broadcast by themselves unless all wait to be broadcast."""
    arrays = [value for value, atom in zip(inputs, equation.invars, strict=True) if atom.aval.shape]
    pending = bool(arrays) and all(value.pending for value in arrays)
    return Value(build(context.graph, equation, *(value.data for value in inputs)), pending)


def _elementwise(build: Any) -> Rule:
    return partial(_apply, build=build)


def _operator(kind: str) -> Rule:
    return _elementwise(lambda graph, _, *operands: graph.add(kind, *operands))


def _logical(kind: str) -> Rule:
    def build(graph: Any, equation: Any, *operands: Any) -> str:
        if equation.invars[0].aval.dtype != np.bool_:
            raise NotImplementedError("bits of integers")
        return graph.add(kind, *operands)

    return _elementwise(build)


def _cast(graph: Any, equation: Any, x: Any) -> Any:
    return (
        x
        if equation.invars[0].aval.dtype == (to := equation.outvars[0].aval.dtype)
        else graph.add("Cast", x, to=element_type(to))
    )


def _maximum(graph: Any, equation: Any, x: Any, y: Any) -> str:
    if isinstance(y, np.ndarray) and y.dtype.kind == "f" and not y.any():
        return graph.add("Relu", x)  # which runtimes join with the layer before it
    return graph.add("Max", x, y)


def _integer_pow(graph: Any, equation: Any, x: Any) -> str:
    power = equation.params["y"]
    if power == 2:
        return graph.add("Mul", x, x)
    return graph.add("Pow", x, scalar(power, equation.invars[0].aval.dtype))


def _is_finite(graph: Any, equation: Any, x: Any) -> str:
    return graph.add("Equal", graph.add("Sub", x, x), scalar(0, equation.invars[0].aval.dtype))


def _select(context: Context, equation: Any, inputs: list[Value]) -> Value:
    if equation.invars[0].aval.dtype != np.bool_ or len(inputs) != 3:
        raise NotImplementedError("a choice among more than two")
    return _elementwise(_where)(context, equation, inputs)


def _where(graph: Any, equation: Any, which: Any, no: Any, yes: Any) -> str:
    if equation.outvars[0].aval.dtype != np.bool_:
        return graph.add("Where", which, yes, no)
    otherwise = graph.add("And", graph.add("Not", which), no)  # because runtimes have no Where of truth values
    return graph.add("Or", graph.add("And", which, yes), otherwise)


ARITHMETIC: dict[str, Rule] = {
    "add": _operator("Add"),
    "add_any": _operator("Add"),
    "sub": _operator("Sub"),
    "mul": _operator("Mul"),
    "div": _operator("Div"),
    "rem": _elementwise(lambda graph, _, x, y: graph.add("Mod", x, y, fmod=1)),
    "pow": _operator("Pow"),
    "max": _elementwise(_maximum),
    "min": _operator("Min"),
    "neg": _operator("Neg"),
    "abs": _operator("Abs"),
    "sign": _operator("Sign"),
    "floor": _operator("Floor"),
    "ceil": _operator("Ceil"),
    "sin": _operator("Sin"),
    "cos": _operator("Cos"),
    "exp": _operator("Exp"),
    "log": _operator("Log"),
    "tanh": _operator("Tanh"),
    "sqrt": _operator("Sqrt"),
    "erf": _operator("Erf"),
    "logistic": _operator("Sigmoid"),
    "eq": _operator("Equal"),
    "lt": _operator("Less"),
    "le": _operator("LessOrEqual"),
    "gt": _operator("Greater"),
    "ge": _operator("GreaterOrEqual"),
    "ne": _elementwise(lambda graph, _, x, y: graph.add("Not", graph.add("Equal", x, y))),
    "and": _logical("And"),
    "or": _logical("Or"),
    "xor": _logical("Xor"),
    "not": _logical("Not"),
    "square": _elementwise(lambda graph, _, x: graph.add("Mul", x, x)),
    "rsqrt": _elementwise(lambda graph, _, x: graph.add("Reciprocal", graph.add("Sqrt", x))),
    "erfc": _elementwise(
        lambda graph, equation, x: graph.add("Sub", scalar(1, equation.invars[0].aval.dtype), graph.add("Erf", x))
    ),
    "log1p": _elementwise(
        lambda graph, equation, x: graph.add("Log", graph.add("Add", x, scalar(1, equation.invars[0].aval.dtype)))
    ),
    "expm1": _elementwise(
        lambda graph, equation, x: graph.add("Sub", graph.add("Exp", x), scalar(1, equation.invars[0].aval.dtype))
    ),
    "clamp": _elementwise(lambda graph, _, low, x, high: graph.add("Min", graph.add("Max", x, low), high)),
    "integer_pow": _elementwise(_integer_pow),
    "is_finite": _elementwise(_is_finite),
    "select_n": _select,
    "convert_element_type": _elementwise(_cast),
    "reduce_precision": _elementwise(lambda graph, _, x: x),
    "stop_gradient": _elementwise(lambda graph, _, x: x),
    "copy": _elementwise(lambda graph, _, x: x),
}
