"""Primitives that read at computed places."""

from typing import Any

import numpy as np
from jax.lax import GatherScatterMode

from mqmha_jax.interop.onnx.graph import Operand, element_type
from mqmha_jax.interop.onnx.values import Context, Rule, Value, scalar


def _gather(context: Context, equation: Any, inputs: list[Value]) -> Value:
    """Reads whole slices along one axis: at the same places for all, or at places of their own along leading axes."""
    x, places = context.full_inputs(equation, inputs)
    graph, params, layout = context.graph, equation.params, equation.params["dimension_numbers"]
    shape, places_shape = (atom.aval.shape for atom in equation.invars)
    batch = len(layout.operand_batching_dims)
    axis = layout.start_index_map[0] if len(layout.start_index_map) == 1 else -1
    leading = tuple(range(batch))
    sizes = tuple(1 if a in (*leading, axis) else size for a, size in enumerate(shape))
    index_axes = range(batch if batch else axis, (batch if batch else axis) + len(places_shape) - 1 - batch)
    expected_offsets = tuple(a for a in range(len(equation.outvars[0].aval.shape)) if a not in (*leading, *index_axes))
    if (
        layout.collapsed_slice_dims != (axis,)
        or layout.operand_batching_dims != leading
        or layout.start_indices_batching_dims != leading
        or (batch and axis != batch)
        or tuple(params["slice_sizes"]) != sizes
        or layout.offset_dims != expected_offsets
    ):
        raise NotImplementedError("slices of several axes")
    last = graph.add("Sub", graph.add("Squeeze", graph.size(shape[axis]), np.array([0])), scalar(1, np.int64))
    wanted = graph.add("Cast", places, to=element_type(np.int64))
    inside = graph.add("Max", graph.add("Min", wanted, last), scalar(0, np.int64))
    if batch:
        found = graph.add("GatherND", x, inside, batch_dims=batch)
    else:
        found = graph.add("Gather", x, graph.add("Squeeze", inside, np.array([len(places_shape) - 1])), axis=axis)
    if params["mode"] in (GatherScatterMode.CLIP, GatherScatterMode.PROMISE_IN_BOUNDS):
        return Value(found)
    return Value(_fill_outside(context, equation, found, graph.add("Equal", wanted, inside)))


def _fill_outside(context: Context, equation: Any, found: Operand, inside: Operand) -> Operand:
    """Replaces what was read outside the array, as JAX's mode "fill" does."""
    out = equation.outvars[0].aval
    layout, filling = equation.params["dimension_numbers"], equation.params["fill_value"]
    if filling is None:
        filling = np.nan if np.issubdtype(out.dtype, np.floating) else 0
    graph = context.graph
    inside = graph.add("Squeeze", inside, np.array([len(equation.invars[1].aval.shape) - 1]))
    if layout.offset_dims:
        inside = graph.add("Unsqueeze", inside, np.asarray(layout.offset_dims, np.int64))
    return graph.add("Where", inside, found, scalar(filling, out.dtype))


GATHERS: dict[str, Rule] = {"gather": _gather}
