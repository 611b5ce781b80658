"""Reads the part of a file that a line names; all kinds of lists use it."""

import math
from collections.abc import MutableMapping
from typing import Any

from mqmha_jax.errors import UserError
from mqmha_jax.features.part import WHOLE, Part

PART = ("start_s", "end_s", "channel")


def take_part(fields: MutableMapping[str, Any], where: str) -> Part:
    """Takes ``start_s``, ``end_s`` and ``channel`` out of the fields of a line.

    Args:
      fields: of the line; the three are numbers, or missing, or None.
      where: list and line, for the message.

    Returns:
      The part; by default the whole file.

    Raises:
      UserError: they do not name a part.
    """
    given = {name: fields.pop(name) for name in PART if name in fields}
    part = WHOLE._replace(**{name: value for name, value in given.items() if value is not None})
    if not (
        _is_time(part.start_s)
        and (part.end_s is None or (_is_time(part.end_s) and part.end_s > part.start_s))
        and (part.channel is None or (type(part.channel) is int and part.channel >= 0))
    ):
        raise UserError(
            f"{where}: start_s={part.start_s}, end_s={part.end_s}, channel={part.channel}: valid: seconds from 0, the "
            "end after the start, and a whole number from 0."
        )
    return Part(float(part.start_s), None if part.end_s is None else float(part.end_s), part.channel)


def parse_number(text: str) -> int | float | str | None:
    """Converts a cell of a table to a number: None if it is empty, the text itself if it is not a number."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text.strip() or None


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0
