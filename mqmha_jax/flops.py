"""Counts the floating-point operations of a function, every pass of its scans included."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def count_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Counts FLOPs as XLA does before compilation, but the body of a scan as often as it runs.

    XLA's ``cost_analysis`` counts the body of every loop once. Scans have a length in the program, so their bodies are
    counted apart and multiplied. A ``while`` loop has no length and counts as one pass.

    Args:
      function: a function of arrays; may be jitted.
      arguments: its arguments, or shapes and types in their place.
    """
    jitted = function if isinstance(function, jax.stages.Wrapped) else jax.jit(function)
    return _count_program(jitted.trace(*arguments).jaxpr)


def _count_program(program: core.ClosedJaxpr) -> float:
    total = _count_once(program)
    for scan in _find_scans(program.jaxpr):
        body = scan.params["jaxpr"]
        total += scan.params["length"] * _count_program(body) - _count_once(body)
    return total


def _count_once(program: core.ClosedJaxpr) -> float:
    shapes = [jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype) for x in program.jaxpr.invars]
    lowered = jax.jit(core.jaxpr_as_fun(program)).lower(*shapes)
    return float((lowered.cost_analysis() or {}).get("flops", float("nan")))


def _find_scans(program: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """Yields the scans of a program, those in called functions and branches too, but not scans within scans."""
    for equation in program.eqns:
        if equation.primitive.name == "scan":
            yield equation
        else:
            for called in core.jaxprs_in_params(equation.params):
                yield from _find_scans(called)
