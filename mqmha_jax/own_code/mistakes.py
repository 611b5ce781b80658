"""An exception in a user's own code as a sentence: which file and line, and what it raised."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mqmha_jax.errors import UserError
from mqmha_jax.own_code.names import code_names
from mqmha_jax.python_file import locate_error

# JAX's messages about shapes are pages long; their first lines say it.
_LONGEST = 300


@contextmanager
def name_own_code(values: Any) -> Iterator[None]:
    """Turns exceptions inside into a sentence if a configuration names code of the user's own.

    Args:
      values: nested dictionaries of the configuration.

    Raises:
      UserError: names the file, the line and the exception, which is its ``__cause__``.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        names = code_names(values)
        if not names:
            raise
        own = " and ".join(names)
        if mistake := describe_mistake(error):
            raise UserError(f"{mistake} The configuration names {own}.") from error
        raise UserError(
            f"Network and loss do not work with {own}: {_describe(error)} Check its arguments, and the shapes and "
            f"types that it returns (docs/extend.md). {_ADVICE}"
        ) from error


def describe_mistake(error: Exception) -> str | None:
    """Says where in the user's own code an exception arose; None if it arose elsewhere."""
    place = locate_error(error)
    return None if place is None else f"{place}: {_describe(error)} {_ADVICE}"


_ADVICE = "'mqmha --debug COMMAND ...' shows the traceback."


def _describe(error: Exception) -> str:
    text = " ".join(str(error).split())
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f"{type(error).__name__}: {shown.rstrip('.')}."
