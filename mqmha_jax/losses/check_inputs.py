"""Checks what users give to the losses; a mistake is a sentence."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from mqmha_jax.errors import UserError


def check_top_k(top_k: int, num_speakers: int, *, name: str) -> None:
    """Raises UserError unless ``0 <= top_k < num_speakers``.

    Args:
      top_k: number of penalised speakers.
      num_speakers: C.
      name: what the user calls ``top_k``.
    """
    if num_speakers < 2:
        raise UserError(f"The loss tells speakers apart and needs at least 2 of them; there are {num_speakers}.")
    if not 0 <= top_k < num_speakers:
        raise UserError(
            f"{name} must be below the number of speakers ({num_speakers}), because it counts the other speakers "
            f"that are penalised, but it is {top_k}. Use 0 (no penalty) to {num_speakers - 1}."
        )


def check_examples(name: str, rank: int, values: ArrayLike, speaker: ArrayLike) -> tuple[Array, Array]:
    """Returns the values as floating point numbers and the speakers as int32, one speaker per row of the values.

    Args:
      name: what the user calls the values.
      rank: number of their dimensions.
      values: one row per example.
      speaker: class of each example.

    Raises:
      UserError: another type or shape.
    """
    values, speaker = as_float(name, rank, values), jnp.asarray(speaker)
    if not jnp.issubdtype(speaker.dtype, jnp.integer):
        raise UserError(f"speaker [B] must hold integers, the class of each example, but its type is {speaker.dtype}.")
    if speaker.shape != values.shape[:1]:
        raise UserError(
            f"speaker [B] has shape {speaker.shape}, but {name} has shape {values.shape}. Give one speaker per row."
        )
    return values, speaker.astype(jnp.int32)


def check_speakers(speaker: ArrayLike, num_speakers: int) -> None:
    """Refuses speakers that do not exist. The values of traced speakers are not known.

    Raises:
      UserError: names the first one.
    """
    if isinstance(speaker, Tracer):
        return
    numbers = np.asarray(speaker)
    wrong = np.flatnonzero((numbers < 0) | (numbers >= num_speakers))
    if wrong.size:
        raise UserError(
            f"speaker[{wrong[0]}] is {numbers[wrong[0]]}, but there are {num_speakers} speakers; valid: 0 to "
            f"{num_speakers - 1}."
        )


def check_scalar(name: str, value: ArrayLike, *, above_zero: bool = False) -> None:
    """Refuses a scale, margin or penalty that makes no loss. The value of a traced one is not known.

    Raises:
      UserError: it is no single finite number, or negative, or zero where it must be above.
    """
    if isinstance(value, Tracer):
        return
    number = np.asarray(value)
    right = number.shape == () and number.dtype.kind in "fiu" and np.isfinite(number)
    if not (right and (number > 0 if above_zero else number >= 0)):
        raise UserError(
            f"{name} must be a finite number {'above 0' if above_zero else 'of at least 0'}, but it is {value!r}."
        )


def as_float(name: str, rank: int, values: ArrayLike) -> Array:
    """Returns floating point numbers in float32 at least, because bfloat16 has two to three digits.

    Args:
      name: what the user calls the values.
      rank: number of their dimensions.
      values: numbers.

    Raises:
      UserError: another type or another number of dimensions.
    """
    values = jnp.asarray(values)
    if values.ndim != rank or not jnp.issubdtype(values.dtype, jnp.floating):
        raise UserError(
            f"{name} must be floating point numbers in {rank} dimensions, but they are {values.dtype} of shape "
            f"{values.shape}."
        )
    return values.astype(jnp.float32) if jnp.finfo(values.dtype).bits < 32 else values
