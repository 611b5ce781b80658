"""A graph of ONNX nodes under construction."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import onnx
from onnx import helper, numpy_helper

from mqmha_jax.interop.onnx.dimensions import Dimension, Expression, parse_dimension

OPSET = 18
_IR_VERSION = 8  # the one that came with this opset

Operand = str | np.ndarray
"""The name of a computed tensor, or a constant."""


class Graph:
    """Nodes and constants, in the order of computation."""

    def __init__(self) -> None:
        """Starts an empty graph."""
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._computed: dict[tuple[Any, ...], str] = {}
        self._sizes: dict[str, str] = {}

    def add_input(self, name: str, dtype: Any, shape: Sequence[Dimension], default: np.ndarray | None = None) -> str:
        """Adds an input of the graph; one with a default is optional. Symbols in its shape become known sizes."""
        self._inputs.append(helper.make_tensor_value_info(name, element_type(dtype), [_label(size) for size in shape]))
        if default is not None:
            self._initializers.append(numpy_helper.from_array(default, name))
            return name
        for axis, size in enumerate(shape):
            if not isinstance(size, int):
                self._sizes.setdefault(str(size), self.add("Shape", name, start=axis, end=axis + 1))
        return name

    def add(self, kind: str, *inputs: Operand, **attributes: Any) -> str:
        """Adds a node of one result and returns the result's name; a repeated node is added once."""
        names = [self.name(value) for value in inputs]
        key = (kind, *names, repr(sorted(attributes.items())))
        if key not in self._computed:
            result = f"{kind}_{len(self._nodes)}"
            self._nodes.append(helper.make_node(kind, names, [result], **attributes))
            self._computed[key] = result
        return self._computed[key]

    def name(self, value: Operand) -> str:
        """Returns the name of a value; a constant becomes an initializer, once."""
        if isinstance(value, str):
            return value
        value = np.asarray(value)
        key = (str(value.dtype), value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self._initializers.append(_tensor(value, self._constants[key]))
        return self._constants[key]

    def size(self, dimension: Dimension) -> Operand:
        """Returns a size as an int64 tensor of shape [1]."""
        return (
            np.array([dimension], np.int64)
            if isinstance(dimension, int)
            else self._evaluate(parse_dimension(dimension))
        )

    def sizes(self, dimensions: Sequence[Dimension]) -> Operand:
        """Returns sizes as an int64 tensor of one axis."""
        if all(isinstance(size, int) for size in dimensions):
            return np.array(dimensions, np.int64)
        return self.add("Concat", *map(self.size, dimensions), axis=0)

    def _evaluate(self, expression: Expression) -> Operand:
        if isinstance(expression, int):
            return np.array([expression], np.int64)
        if isinstance(expression, str):
            return self._sizes[expression]
        operation, *arguments = expression
        values = [self._evaluate(argument) for argument in arguments]
        if operation == "FloorDiv":  # ONNX's Div rounds towards zero, but its Mod has the sign of the divisor
            dividend, divisor = values
            return self.add("Div", self.add("Sub", dividend, self.add("Mod", dividend, divisor)), divisor)
        return self.add(operation, *values)

    def to_model(self, outputs: Mapping[str, tuple[Operand, Any, Sequence[Dimension]]]) -> onnx.ModelProto:
        """Returns the finished model.

        Args:
          outputs: name -> value, type and shape.
        """
        results = []
        for name, (value, dtype, shape) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [self.name(value)], [name]))
            results.append(helper.make_tensor_value_info(name, element_type(dtype), [_label(size) for size in shape]))
        graph = helper.make_graph(self._nodes, "mqmha", self._inputs, results, self._initializers)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="mqmha_jax")
        onnx.checker.check_model(model)
        return model


def element_type(dtype: Any) -> int:
    """Returns ONNX's number of a type of elements."""
    if dtype == jnp.bfloat16:
        return onnx.TensorProto.BFLOAT16
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _tensor(value: np.ndarray, name: str) -> onnx.TensorProto:
    if value.dtype != jnp.bfloat16:
        return numpy_helper.from_array(value, name)
    return helper.make_tensor(name, onnx.TensorProto.BFLOAT16, value.shape, value.tobytes(), raw=True)


def _label(size: Dimension) -> int | str:
    return size if isinstance(size, int) else str(size)
