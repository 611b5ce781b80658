"""The hash of a file, which proves that its bytes have not changed."""

import hashlib
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable


@runtime_checkable
class Openable(Protocol):
    """A path, of this machine or of cloud storage (``etils.epath``, which takes too long to import here)."""

    def open(self, mode: Literal["rb"]) -> Any:
        """Opens the file, in binary."""


def hash_file(path: Openable) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
      OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_and_hash(path: Path) -> list[Any]:
    """``[bytes, SHA-256]`` of a file, as JSON keeps them.

    Raises:
      OSError: it cannot be read.
    """
    return [path.stat().st_size, hash_file(path)]
