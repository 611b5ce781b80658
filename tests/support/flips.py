"""Files with one bit changed, and what a reader says about them."""

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mqmha_jax.errors import UserError


def flip_one_bit(content: bytes, place: int) -> bytes:
    """The content with one bit of one byte changed; which one follows from the place."""
    return content[:place] + bytes([content[place] ^ 1 << random.Random(place).randrange(8)]) + content[place + 1 :]


def flip_each(path: Path, places: Iterable[int] | None = None) -> Iterator[int]:
    """Changes one bit of a file, place by place, each time in the original content, which stays at the end."""
    content = path.read_bytes()
    try:
        for place in range(len(content)) if places is None else places:
            path.write_bytes(flip_one_bit(content, place))
            yield place
    finally:
        path.write_bytes(content)


def refusal_of(read: Callable[[], Any]) -> str | None:
    """The sentence with which something is refused, or None; other exceptions pass."""
    try:
        read()
    except UserError as error:
        return str(error)
    return None
