"""Reads Kaldi's archives of vectors, binary and text, and tables that point into them. It runs no command in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float

from mqmha_jax.data.ids import split_fields
from mqmha_jax.data.lists import text_lines
from mqmha_jax.errors import UserError

_TYPES: dict[bytes, np.dtype[Any]] = {b"FV ": np.dtype("<f4"), b"DV ": np.dtype("<f8")}
_MATRICES = (b"FM ", b"DM ", b"CM ", b"CM2", b"CM3")
_BINARY, _SIZE_OF_INT32 = b"\0B", b"\4"
_LARGEST = 1 << 20  # of an embedding; a larger size is a damaged file
_USUAL_KEY, _LONGEST_KEY = 256, 1 << 16  # in bytes; a longer read empties the file's buffer
_LONGEST_LINE = 32 * _LARGEST

# A name, in quotation marks if it contains white space, and one character of white space.
_KEY = re.compile(rb'\s*((?P<quoted>"(?:[^"\\]|\\.)*")(?=\s)|\S+)\s')


def read_archive(path: Path) -> Iterator[tuple[str, Float[np.ndarray, " E"]]]:
    """Yields key and vector of every entry of an ``.ark``.

    Args:
      path: entries ``key`` and a vector, in Kaldi's binary form or its text form ``key [ 1.5 -2 ]``.

    Raises:
      UserError: the file cannot be read, is damaged, or holds anything other than vectors.
    """
    with _open_archive(path) as file:
        while key := _read_key(path, file):
            yield key, _read_vector(path, file, key)


def read_script(path: Path) -> Iterator[tuple[str, Float[np.ndarray, " E"]]]:
    """Yields key and vector of every line ``key archive:offset`` of an ``.scp``.

    Args:
      path: the table; its paths start from the current directory, as in Kaldi, or from the table's own.

    Raises:
      UserError: the table or an archive cannot be read, or a line has another form, such as a command.
    """
    for line_number, fields in text_lines(path):
        place = re.fullmatch(r"(.+):(\d+)", fields[1]) if len(fields) == 2 else None
        if place is None:
            raise UserError(
                f"{path}:{line_number}: {' '.join(fields)!r}; valid: 'key archive:offset'. Commands are not run."
            )
        archive = Path(place[1])
        if not archive.exists() and (path.parent / archive).exists():
            archive = path.parent / archive
        with _open_archive(archive) as file:
            file.seek(int(place[2]))
            yield fields[0], _read_vector(archive, file, fields[0])


def _open_archive(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: the archive cannot be read ({error.strerror}).") from error


def _read_key(path: Path, file: BinaryIO) -> str:
    """Reads the name of the next entry and the white space behind it; returns "" at the end."""
    start = file.tell()
    head = file.read(_USUAL_KEY)
    match = _KEY.match(head)
    if match is None or (match[1].startswith(b'"') and not match["quoted"]):  # the name, or its quotation, goes on
        head += file.read(_LONGEST_KEY - len(head))
        match = _KEY.match(head)
    if match is None:
        if not head.strip():
            return ""
        raise UserError(f"{path}: not a Kaldi archive, or damaged, at byte {start} (no name).")
    file.seek(start + match.end())
    try:
        return split_fields(match[1].decode())[0]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a Kaldi archive, or damaged, at byte {start} ({error.reason}).") from error


def _read_vector(path: Path, file: BinaryIO, key: str) -> Float[np.ndarray, " E"]:
    """Reads the entry at the current position."""
    start = file.tell()
    if file.read(2) != _BINARY:
        file.seek(start)
        return _parse_vector(path, file.readline(_LONGEST_LINE), key)
    kind = file.read(3)
    if kind in _MATRICES:
        raise UserError(f"{path}: {key!r} is a matrix; valid: vectors, one embedding per utterance.")
    head = file.read(5)
    size = int.from_bytes(head[1:], "little", signed=True)
    if kind not in _TYPES or head[:1] != _SIZE_OF_INT32 or not 0 <= size <= _LARGEST:
        raise UserError(
            f"{path}: {key!r} at byte {start} is not a vector of floats; the archive is damaged or of an "
            "unsupported kind."
        )
    data = file.read(size * _TYPES[kind].itemsize)
    if len(data) < size * _TYPES[kind].itemsize:
        raise UserError(f"{path}: the archive ends within {key!r}; copy it again from its source.")
    return np.frombuffer(data, _TYPES[kind])


def _parse_vector(path: Path, line: bytes, key: str) -> Float[np.ndarray, " E"]:
    fields = line.split()
    if len(fields) < 2 or fields[0] != b"[" or fields[-1] != b"]":
        raise UserError(f"{path}: no vector after {key!r}; valid: Kaldi's binary form, or 'key [ 1.5 -2 ]' on a line.")
    try:
        return np.array([float(field) for field in fields[1:-1]])
    except ValueError as error:
        raise UserError(f"{path}: the vector of {key!r} holds something other than numbers ({error}).") from error
