"""Values during the conversion, and broadcasting that waits until it is needed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mqmha_jax.interop.onnx.graph import Graph, Operand


class Value(NamedTuple):
    """A tensor of the graph or a constant.

    Attributes:
      data: its name or content.
      pending: its shape is not yet the one that JAX says, but broadcasts to it; it has as many axes, or none. Operators
        of ONNX broadcast by themselves, so most values are never stored at full size.
    """

    data: Operand
    pending: bool = False


class Context(NamedTuple):
    """What the rules work on."""

    graph: Graph

    def full(self, value: Value, aval: Any) -> Operand:
        """Returns a value in the shape that JAX says."""
        return self.graph.add("Expand", value.data, self.graph.sizes(aval.shape)) if value.pending else value.data

    def full_inputs(self, equation: Any, inputs: list[Value]) -> list[Operand]:
        """Returns all inputs of an equation in their shapes."""
        return [self.full(value, atom.aval) for value, atom in zip(inputs, equation.invars, strict=True)]


Rule = Callable[[Context, Any, list[Value]], Any]
"""``(context, equation, inputs) -> value``, or a list of values for an equation with several results."""


def scalar(value: int | float, dtype: Any) -> np.ndarray:
    """A constant without axes."""
    return np.asarray(value, dtype)
