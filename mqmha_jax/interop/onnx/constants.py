"""Computes equations of constants during the conversion, such as the gains of normalisations.

Only a few primitives are worth it; the runtime computes the rest once, when it loads the file.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

_SMALL = 4096  # bytes


def _broadcast(equation: Any, x: np.ndarray) -> np.ndarray:
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    ones = [1] * len(shape)
    for axis, size in zip(axes, x.shape, strict=True):
        ones[axis] = size
    return np.broadcast_to(x.reshape(ones), shape)


def _reshape(equation: Any, x: np.ndarray) -> np.ndarray:
    return x.reshape(equation.outvars[0].aval.shape)


_COMPUTED: dict[str, Callable[..., np.ndarray]] = {
    "add": lambda _, x, y: x + y,
    "sub": lambda _, x, y: x - y,
    "mul": lambda _, x, y: x * y,
    "neg": lambda _, x: -x,
    "rsqrt": lambda _, x: 1 / np.sqrt(x),
    "convert_element_type": lambda equation, x: x.astype(equation.params["new_dtype"]),
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": lambda equation, x: x.transpose(equation.params["permutation"]),
    "tile": lambda equation, x: np.tile(x, equation.params["reps"]),
}


def compute_constant(equation: Any, arrays: list[Any]) -> np.ndarray | None:
    """Returns the result of an equation of constants; None if it is not worth computing here.

    That is: an operand is not constant, or the result would be much larger than the operands and with it the file.
    """
    out = equation.outvars[0].aval
    if equation.primitive.name not in _COMPUTED or not all(isinstance(array, np.ndarray) for array in arrays):
        return None
    if not all(isinstance(size, int) for size in out.shape):
        return None
    if out.size * out.dtype.itemsize > max(_SMALL, sum(array.nbytes for array in arrays)):
        return None
    return np.asarray(_COMPUTED[equation.primitive.name](equation, *arrays), out.dtype)
