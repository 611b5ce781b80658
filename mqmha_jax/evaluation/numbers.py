"""What numbers must be: arrays made from lists, NumPy or JAX, and embeddings that have a direction."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from mqmha_jax.errors import UserError

# Lengths whose squares float32 holds with all its digits, summed over thousands of dimensions.
_SHORTEST, _LONGEST = 1e-10, 1e15

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


def require_direction(
    vectors: Float[np.ndarray, "N E"], ids: Sequence[str] | None = None, *, what: str = "embeddings"
) -> None:
    """Refuses embeddings without a direction that float32 can tell; arguments as for ``require_finite``.

    Raises:
      UserError: one is not finite, has length 0 (after the mean is subtracted), or is too short or too long.
    """
    require_finite(vectors, ids, what=what)
    largest = np.abs(vectors).max(axis=1, initial=0)  # within a factor of sqrt(E) of the length, and never overflows
    wrong = np.flatnonzero((largest < _SHORTEST) | (largest > _LONGEST))
    if wrong.size:
        first = f"number {wrong[0] + 1}" if ids is None else f"that of {ids[wrong[0]]!r}"
        raise UserError(
            f"{wrong.size} of the {len(vectors)} {what} have no usable length, the first is {first} (largest value "
            f"{largest[wrong[0]]:.3g}); valid: {_SHORTEST:g} to {_LONGEST:g}. Leave them out, or scale all embeddings."
        )


def require_finite(
    vectors: Float[np.ndarray, "N E"], ids: Sequence[str] | None = None, *, what: str = "embeddings"
) -> None:
    """Refuses embeddings that contain nan or infinity.

    Args:
      vectors: ``[N, E]``.
      ids: names of the N utterances, for the message; None: the message counts from 1.
      what: what the message calls the embeddings.

    Raises:
      UserError: one is nan or infinite.
    """
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if broken.size:
        first = f"number {broken[0] + 1}" if ids is None else f"that of {ids[broken[0]]!r}"
        raise UserError(
            f"{broken.size} of the {len(vectors)} {what} are not finite, the first is {first}; leave them out, or "
            "check their audio and that the training of the network did not diverge."
        )
