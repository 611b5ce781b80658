"""Checks what one's own functions return while JAX traces them: a wrong shape would broadcast and train silently."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax.numpy as jnp

from mqmha_jax.errors import UserError

_Array = TypeVar("_Array")


def call_elementwise(role: str, function: Callable[..., _Array], values: Any, *rest: Any) -> _Array:
    """Calls a function that must return one number for each of its values.

    Args:
      role: what the function is, for the message: ``"target"``.
      function: its first argument is ``values``.
      values: an array.
      *rest: further arguments of the function.

    Raises:
      UserError: the result has another shape than the values, or is no array of floating point numbers.
    """
    result = function(values, *rest)
    require_floats(result, values.shape, f"{role} {name_function(function)}", "one number for each value")
    return result


def require_floats(result: Any, shape: Sequence[Any], what: str, meaning: str) -> None:
    """Refuses a result that is no array of floating point numbers of a certain shape.

    Args:
      result: what was returned.
      shape: the right shape; None: any length. An export leaves lengths open: they are symbols.
      what: names what returned it.
      meaning: the right shape in words.

    Raises:
      UserError: names both shapes.
    """
    if not _is_array(result) or not fits(result.shape, shape) or not jnp.issubdtype(result.dtype, jnp.floating):
        expected = ", ".join("any" if length is None else str(length) for length in shape)
        raise UserError(
            f"{what} returned {describe(result)}. It must return floating point numbers of shape "
            f"({expected}{',' if len(shape) == 1 else ''}): {meaning}."
        )


def fits(found: Sequence[Any], expected: Sequence[Any]) -> bool:
    """Whether a shape is the expected one; a length that is None or that an export leaves open fits every length."""
    return len(found) == len(expected) and all(
        a == b or not isinstance(a, int) or not isinstance(b, int) for a, b in zip(found, expected, strict=True)
    )


def describe(value: Any) -> str:
    """Type and shape of a value, for messages."""
    return f"{value.dtype} of shape {value.shape}" if _is_array(value) else f"a value of type {type(value).__name__}"


def name_function(function: Any) -> str:
    """Name, file and line of a function, or of the ``__call__`` of a module: ``soft (my_loss.py, line 8)``."""
    is_function = inspect.isroutine(function) or hasattr(function, "__wrapped__")
    name = getattr(function, "__name__", type(function).__name__) if is_function else type(function).__name__
    code = getattr(inspect.unwrap(function if is_function else type(function).__call__), "__code__", None)
    return f"{name} ({code.co_filename}, line {code.co_firstlineno})" if code else name


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")
