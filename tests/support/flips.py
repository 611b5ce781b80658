"""Files with one bit changed, and what a reader says about them."""

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mqmha_jax.errors import UserError


def flip_one_bit(content: bytes, place: int) -> bytes:
    """Changes one bit of one byte of the content; the place decides which."""
    return content[:place] + bytes([content[place] ^ 1 << random.Random(place).randrange(8)]) + content[place + 1 :]


def flip_each(path: Path, places: Iterable[int] | None = None) -> Iterator[int]:
    """Changes one bit of the original file at each place in turn, and restores the file at the end."""
    content = path.read_bytes()
    try:
        for place in range(len(content)) if places is None else places:
            path.write_bytes(flip_one_bit(content, place))
            yield place
    finally:
        path.write_bytes(content)


def refusal_of(read: Callable[[], Any]) -> str | None:
    """Returns the message of a UserError, or None if none is raised; other exceptions pass."""
    try:
        read()
    except UserError as error:
        return str(error)
    return None
