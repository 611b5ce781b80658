"""What a device says when its memory is used up, as a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from mqmha_jax.errors import UserError

_EXHAUSTED = "RESOURCE_EXHAUSTED"


def describe_exhaustion(error: BaseException) -> str | None:
    """Says that a device has too little memory, in the words of XLA; None for any other exception."""
    # By name, so that a command that needs no device does not import JAX.
    if type(error).__name__ not in ("JaxRuntimeError", "XlaRuntimeError") or _EXHAUSTED not in str(error):
        return None
    words = str(error).partition(f"{_EXHAUSTED}: ")[2].partition("\n")[0].strip().rstrip(".")
    return f"The memory of the device is used up ({words})."


@contextmanager
def explain_exhaustion(advice: str) -> Iterator[None]:
    """Turns the exception of a device without memory into a sentence.

    Args:
      advice: how to need less, as a sentence.

    Raises:
      UserError: the memory is used up.
    """
    try:
        yield
    except Exception as error:
        if sentence := describe_exhaustion(error):
            raise UserError(f"{sentence} {advice}") from error
        raise
