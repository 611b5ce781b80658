"""Numbers from whatever a caller has: lists, arrays of NumPy or of JAX."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mqmha_jax.errors import UserError

Numbers = ArrayLike | Sequence[Any]  # run-time checkers take a tuple only for the second


def as_numbers(values: Numbers, what: str) -> np.ndarray:
    """An array of numbers from lists, NumPy's arrays or JAX's.

    Args:
      values: numbers or booleans.
      what: what the message calls them.

    Raises:
      UserError: they are something else, such as text or lists of different lengths.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise UserError(f"The {what} do not form an array ({error}); valid: numbers.") from error
    if array.size and array.dtype.kind not in "biuf":
        raise UserError(f"The {what} have type {array.dtype}; valid: numbers.")
    return array
