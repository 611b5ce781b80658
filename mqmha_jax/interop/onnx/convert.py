"""Walks through the equations of a jaxpr and adds ONNX nodes that compute them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend import core

from mqmha_jax.errors import UserError
from mqmha_jax.interop.onnx.arithmetic import ARITHMETIC
from mqmha_jax.interop.onnx.constants import compute_constant
from mqmha_jax.interop.onnx.gathers import GATHERS
from mqmha_jax.interop.onnx.graph import Graph, Operand
from mqmha_jax.interop.onnx.products import PRODUCTS
from mqmha_jax.interop.onnx.reductions import REDUCTIONS
from mqmha_jax.interop.onnx.shapes import SHAPES
from mqmha_jax.interop.onnx.values import Context, Rule, Value

RULES: dict[str, Rule] = {
    **ARITHMETIC,
    **SHAPES,
    **REDUCTIONS,
    **PRODUCTS,
    **GATHERS,
}

# Primitives that only wrap another jaxpr.
_CALLS = {
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "checkpoint",
    "remat",
    "remat2",
}


def convert_jaxpr(graph: Graph, closed: core.ClosedJaxpr, arguments: Sequence[Operand]) -> list[Operand]:
    """Adds the computation of a jaxpr to a graph.

    Args:
      graph: receives the nodes.
      closed: the jaxpr; sizes may be symbolic.
      arguments: tensors of the graph, or constants.

    Returns:
      The results.

    Raises:
      UserError: the jaxpr has a primitive that has no counterpart; the message names it.
    """
    context = Context(graph)
    results = _run(context, closed.jaxpr, closed.consts, [Value(argument) for argument in arguments])
    return [context.full(value, out.aval) for value, out in zip(results, closed.jaxpr.outvars, strict=True)]


def _run(context: Context, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Value]) -> list[Value]:
    known: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
    known |= {var: Value(np.asarray(const)) for var, const in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> Value:
        return Value(np.asarray(atom.val, atom.aval.dtype)) if hasattr(atom, "val") else known[atom]

    for equation in jaxpr.eqns:
        known |= zip(
            equation.outvars, _convert(context, equation, [read(atom) for atom in equation.invars]), strict=True
        )
    return [read(atom) for atom in jaxpr.outvars]


def _convert(context: Context, equation: Any, inputs: list[Value]) -> list[Value]:
    name = equation.primitive.name
    if name in _CALLS:
        inner = next(equation.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in equation.params)
        return _run(context, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs)
    known = [None if value.pending else value.data for value in inputs]
    if (constant := compute_constant(equation, known)) is not None:
        return [Value(constant)]
    if (rule := RULES.get(name)) is None:
        raise UserError(
            f"The network uses JAX's primitive {name!r}, which the ONNX export does not support. Supported: "
            f"{', '.join(sorted(RULES))}. Write the layer with those, or use --format stablehlo, which supports all."
        )
    try:
        results = rule(context, equation, inputs)
    except NotImplementedError as error:
        raise UserError(
            f"The network uses JAX's primitive {name!r} for {error}, which the ONNX export does not support. Write the "
            "layer in another way, or use --format stablehlo, which supports all."
        ) from None
    return results if isinstance(results, list) else [results]
