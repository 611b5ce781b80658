"""Checks the window lengths of ``identify --windows``."""

import numbers

from mqmha_jax.errors import UserError
from mqmha_jax.field_checks import check_value


def check_window_lengths(window_s: float, hop_s: float) -> None:
    """Refuses invalid window lengths.

    Args:
      window_s: length of a window.
      hop_s: from the start of one window to the next.

    Raises:
      UserError: a length is out of range or no number.
    """
    for name, length in (("window_s", window_s), ("hop_s", hop_s)):
        if not isinstance(length, numbers.Real):
            check_value(name, length, float)
    if not 0.5 <= window_s <= 60 or not 0.1 <= hop_s <= window_s:
        raise UserError(
            f"Windows of {window_s:g} s every {hop_s:g} s; valid: 0.5 to 60 s, and at least 0.1 s from one to the next "
            "and at most the length of a window."
        )
