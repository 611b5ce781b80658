"""A part of a file as a file, with some of its bytes replaced: for decoders that believe a wrong header."""

import io
from collections.abc import Mapping
from typing import Protocol, runtime_checkable


@runtime_checkable
class ReadableFile(Protocol):
    """What decoders need of a file."""

    def read(self, count: int = -1, /) -> bytes:
        """At most ``count`` bytes; all that follow if it is negative."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves to a byte."""

    def tell(self) -> int:
        """The number of the present byte."""


class FileWindow:
    """Bytes ``start`` to ``stop`` of a file."""

    def __init__(
        self, file: ReadableFile, start: int = 0, stop: int | None = None, replaced: Mapping[int, bytes] | None = None
    ) -> None:
        """Opens a window on a file.

        Args:
          file: read through the window alone from now on.
          start: its first byte.
          stop: the byte after the last; None: the end of the file.
          replaced: bytes to show in place of those at some offsets from ``start``.
        """
        self._file = file
        self._start = start
        self._size = (size_of(file) if stop is None else stop) - start
        self._replaced = dict(replaced or {})
        self._position = 0

    def read(self, count: int = -1, /) -> bytes:
        """At most ``count`` bytes, all that follow if it is negative."""
        first = self._position
        left = max(0, self._size - first)
        self._file.seek(self._start + first)
        content = self._file.read(left if count < 0 else min(count, left))
        self._position += len(content)
        for offset, new in self._replaced.items():
            if first < offset + len(new) and offset < first + len(content):
                changed = bytearray(content)
                for i, byte in enumerate(new, start=offset - first):
                    if 0 <= i < len(changed):
                        changed[i] = byte
                content = bytes(changed)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves as ``io.IOBase.seek`` does."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """The number of the present byte."""
        return self._position


def size_of(file: ReadableFile) -> int:
    """The size of a file in bytes; moves to its end."""
    return file.seek(0, io.SEEK_END)
