"""Primitives that move, repeat, cut and join elements."""

from typing import Any

import numpy as np

from mqmha_jax.interop.onnx.graph import Operand, element_type
from mqmha_jax.interop.onnx.values import Context, Rule, Value, scalar


def _axes(axes: Any) -> np.ndarray:
    return np.asarray(axes, np.int64)


def _reshape(context: Context, equation: Any, inputs: list[Value]) -> Value:
    if equation.primitive.name == "reshape" and equation.params["dimensions"] is not None:
        raise NotImplementedError("a change of the order")
    (x,) = context.full_inputs(equation, inputs)
    old, new = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return Value(reshape(context, x, old, new))


def reshape(context: Context, x: Operand, old: tuple[Any, ...], new: tuple[Any, ...]) -> Operand:
    """Gives a value another shape; sizes are constants of the graph wherever ONNX can copy or infer the others."""
    if old == new:
        return x
    if (inserted := _inserted_ones(old, new)) is not None:
        return context.graph.add("Unsqueeze", x, _axes(inserted))
    if (removed := _inserted_ones(new, old)) is not None:
        return context.graph.add("Squeeze", x, _axes(removed))
    copied = [axis < len(old) and old[axis] == size and size != 0 for axis, size in enumerate(new)]
    unknown = [axis for axis, size in enumerate(new) if not isinstance(size, int) and not copied[axis]]
    if len(unknown) > 1:
        return context.graph.add("Reshape", x, context.graph.sizes(new))
    sizes = [0 if copied[axis] else -1 if axis in unknown else size for axis, size in enumerate(new)]
    return context.graph.add("Reshape", x, _axes(sizes))


def _inserted_ones(short: tuple[Any, ...], long: tuple[Any, ...]) -> list[int] | None:
    """Axes of ``long`` that are ones between the axes of ``short``; None if there is another difference."""
    inserted, rest = [], list(short)
    for axis, size in enumerate(long):
        if rest and rest[0] == size:
            rest.pop(0)
        elif isinstance(size, int) and size == 1:
            inserted.append(axis)
        else:
            return None
    return None if rest or len(long) <= len(short) else inserted


def _broadcast(context: Context, equation: Any, inputs: list[Value]) -> Value:
    """Inserts axes; what is repeated along them is left to the operators that use the value."""
    x, shape, axes = inputs[0], equation.params["shape"], equation.params["broadcast_dimensions"]
    old = equation.invars[0].aval.shape
    if not old:
        return Value(x.data, pending=bool(shape))
    inserted = [axis for axis in range(len(shape)) if axis not in axes]
    repeats = any(shape[axis] != size for axis, size in zip(axes, old, strict=True))
    if not inserted:
        return Value(x.data, pending=x.pending or repeats)
    repeats = repeats or any(shape[axis] != 1 for axis in inserted)
    if isinstance(x.data, np.ndarray):
        return Value(np.expand_dims(x.data, inserted) if x.data.ndim else x.data, pending=x.pending or repeats)
    full = context.full(x, equation.invars[0].aval)
    return Value(context.graph.add("Unsqueeze", full, _axes(inserted)), pending=repeats)


def _iota(context: Context, equation: Any, inputs: list[Value]) -> Value:
    shape, axis = equation.params["shape"], equation.params["dimension"]
    size = context.graph.size(shape[axis])
    end = context.graph.add("Squeeze", size, _axes([0]))
    steps = context.graph.add("Range", scalar(0, np.int64), end, scalar(1, np.int64))
    others = [other for other in range(len(shape)) if other != axis]
    data = context.graph.add("Cast", steps, to=element_type(equation.params["dtype"]))
    return Value(context.graph.add("Unsqueeze", data, _axes(others)) if others else data, pending=bool(others))


def _transpose(context: Context, equation: Any, inputs: list[Value]) -> Value:
    return Value(transpose(context, context.full(inputs[0], equation.invars[0].aval), equation.params["permutation"]))


def transpose(context: Context, x: Operand, permutation: Any) -> Operand:
    """Reorders axes; of constants at once."""
    permutation = [int(axis) for axis in permutation]
    if permutation == sorted(permutation):
        return x
    if isinstance(x, np.ndarray):
        return np.ascontiguousarray(x.transpose(permutation))
    return context.graph.add("Transpose", x, perm=permutation)


def _slice(context: Context, equation: Any, inputs: list[Value]) -> Value:
    (x,) = context.full_inputs(equation, inputs)
    shape = equation.invars[0].aval.shape
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or (1,) * len(shape)
    axes = [
        axis for axis, size in enumerate(shape) if not (starts[axis] == 0 and limits[axis] == size and steps[axis] == 1)
    ]
    if not axes:
        return Value(x)
    first, last = (context.graph.sizes([edges[axis] for axis in axes]) for edges in (starts, limits))
    return Value(context.graph.add("Slice", x, first, last, _axes(axes), _axes([steps[axis] for axis in axes])))


def _split(context: Context, equation: Any, inputs: list[Value]) -> list[Value]:
    (x,) = context.full_inputs(equation, inputs)
    axis, parts, first = _axes([equation.params["axis"]]), [], 0
    for size in equation.params["sizes"]:
        last = first + size
        parts.append(Value(context.graph.add("Slice", x, context.graph.size(first), context.graph.size(last), axis)))
        first = last
    return parts


def _dynamic_slice(context: Context, equation: Any, inputs: list[Value]) -> Value:
    x, *starts = context.full_inputs(equation, inputs)
    graph = context.graph
    sizes = graph.sizes(equation.params["slice_sizes"])
    first = graph.add(
        "Concat",
        *(graph.add("Unsqueeze", graph.add("Cast", s, to=element_type(np.int64)), _axes([0])) for s in starts),
        axis=0,
    )
    highest = graph.add("Sub", graph.sizes(equation.invars[0].aval.shape), sizes)
    first = graph.add("Max", graph.add("Min", first, highest), scalar(0, np.int64))  # JAX moves it inside
    return Value(graph.add("Slice", x, first, graph.add("Add", first, sizes), _axes(range(len(starts)))))


def _pad(context: Context, equation: Any, inputs: list[Value]) -> Value:
    x, filling = context.full_inputs(equation, inputs)
    low, high, between = zip(*equation.params["padding_config"], strict=True)
    if any(between):
        raise NotImplementedError("filling between elements")
    edges = context.graph.sizes([*low, *high])
    if isinstance(edges, np.ndarray) and not edges.any():
        return Value(x)
    if equation.invars[0].aval.dtype == np.bool_:  # which no runtime pads
        wide = context.graph.add("Cast", x, to=element_type(np.uint8))
        padded = context.graph.add("Pad", wide, edges, context.graph.add("Cast", filling, to=element_type(np.uint8)))
        return Value(context.graph.add("Cast", padded, to=element_type(np.bool_)))
    return Value(context.graph.add("Pad", x, edges, filling))


def _concatenate(context: Context, equation: Any, inputs: list[Value]) -> Value:
    return Value(context.graph.add("Concat", *context.full_inputs(equation, inputs), axis=equation.params["dimension"]))


def _stack(context: Context, equation: Any, inputs: list[Value]) -> Value:
    axis = equation.params["axis"]
    parts = [context.graph.add("Unsqueeze", x, _axes([axis])) for x in context.full_inputs(equation, inputs)]
    return Value(context.graph.add("Concat", *parts, axis=axis))


def _tile(context: Context, equation: Any, inputs: list[Value]) -> Value:
    (x,) = context.full_inputs(equation, inputs)
    return Value(context.graph.add("Tile", x, context.graph.sizes(equation.params["reps"])))


def _reverse(context: Context, equation: Any, inputs: list[Value]) -> Value:
    (x,) = context.full_inputs(equation, inputs)
    axes = _axes(equation.params["dimensions"])
    ends = np.full(len(axes), np.iinfo(np.int64).min)
    return Value(context.graph.add("Slice", x, np.full(len(axes), -1), ends, axes, np.full(len(axes), -1)))


def _dimension_as_value(context: Context, equation: Any, inputs: list[Value]) -> Value:
    size = context.graph.add("Squeeze", context.graph.size(equation.params["dim"]), _axes([0]))
    return Value(context.graph.add("Cast", size, to=element_type(equation.outvars[0].aval.dtype)))


SHAPES: dict[str, Rule] = {
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "broadcast_in_dim": _broadcast,
    "iota": _iota,
    "transpose": _transpose,
    "slice": _slice,
    "split": _split,
    "dynamic_slice": _dynamic_slice,
    "pad": _pad,
    "concatenate": _concatenate,
    "stack": _stack,
    "tile": _tile,
    "rev": _reverse,
    "dim_as_value": _dimension_as_value,
}
