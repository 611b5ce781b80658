"""The one exception that means "the user can fix this"; the command line prints it without a traceback."""

import difflib
import itertools
from collections.abc import Iterable

from mqmha_jax.field_names import names_here, plain


class UserError(ValueError):
    """A mistake in a file, an option or a list. The message says what, where, what is valid and what to do."""

    def __init__(self, message: str) -> None:
        """Takes the message and escapes control characters of names in it, which would change what a terminal shows."""
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Escapes control characters other than newlines, so that names cannot change what a terminal shows."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def count_noun(number: int, noun: str) -> str:
    """``count_noun(1, "file")`` is "1 file", ``count_noun(1200, "file")`` is "1,200 files"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def missing_extra(need: str, extra: str) -> UserError:
    """The error about an optional package that is not installed, for the caller to raise.

    Args:
      need: what needs which package, such as ``"An ONNX file needs the package onnx"``.
      extra: name of its group in ``pyproject.toml``.
    """
    return UserError(f"{need}, of the extra '{extra}'. In a clone of the project: pip install '.[{extra}]'")


def _similarity(name: str, one: str) -> tuple[float, int]:
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(name, one, strict=False))
    return difflib.SequenceMatcher(None, one, name).ratio(), len(list(same))


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a misspelt name, or for a name that another toolkit uses.

    Args:
      kind: what the name should name, e.g. ``"option"`` or ``"encoder"``.
      name: what the user wrote.
      valid: every name that is accepted.

    Returns:
      An error for the caller to raise. It offers our name for the field's (``arcface`` is ``aam``) or else the nearest
      valid name, and lists all of them.
    """
    names = sorted(valid)
    spelt_alike = [one for one in names if plain(one) == plain(name)]
    # Of names that are equally near, the one that begins alike: resnet34 and not resnet50 for resnet35.
    close = difflib.get_close_matches(name, names, n=10, cutoff=0.5)
    nearest = spelt_alike or sorted(close, key=lambda one: _similarity(name, one), reverse=True)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    if not spelt_alike and (here := names_here(name, names)):
        hint = f" It is called {' or '.join(map(repr, here))} here."
    listed = f"Valid: {', '.join(names)}." if names else "There is none to set."
    return UserError(f"Unknown {kind} {name!r}.{hint} {listed}")
