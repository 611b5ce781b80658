"""The one exception that means "the user can mend this"; the command line prints it without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in a file, an option or a list; the message says what, where, what is valid and what to do."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a misspelt name.

    Args:
      kind: what the name should have named, e.g. ``"option"`` or ``"encoder"``.
      name: what was given.
      valid: every name that would have been accepted.

    Returns:
      An error (to be raised by the caller) that offers the nearest valid name and lists all of them.
    """
    names = sorted(valid)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return UserError(f"Unknown {kind} {name!r}.{hint} Valid: {', '.join(names)}.")
