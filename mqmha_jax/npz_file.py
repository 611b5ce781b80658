"""Reads NumPy's files: no objects, no size that exceeds the file, and readable errors."""

import contextlib
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from numpy.lib.npyio import NpzFile

from mqmha_jax.errors import UserError

# DEFLATE codes at most 258 bytes in 2 bits; a member that claims to be larger lies about its size.
_LARGEST_EXPANSION = 1032
_SMALLEST_BYTES = 2**16


@contextlib.contextmanager
def open_npz(path: Path | epath.Path, *, advice: str) -> Iterator[NpzFile]:
    """Opens an ``.npz`` file whose arrays are read inside the ``with`` block, by name.

    The sizes that the archive and the arrays' headers declare are compared with the bytes that are there before
    anything is read, so that a small file cannot ask for much memory. Checksums of the archive cover every array.

    Args:
      path: of the file.
      advice: a sentence on what to do where it is missing or damaged.

    Raises:
      UserError: the file is missing or damaged, declares sizes that it does not have, holds Python objects, or lacks
        an array that is read inside.
    """
    try:
        with path.open("rb") as file:
            _check_members(file)
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                yield archive
    except KeyError as error:
        raise UserError(f"{path} lacks an array ({error.args[0] if error.args else error}). {advice}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}). {advice}") from error
    except UserError:
        raise
    # Objects; bytes that are not an archive; cut off; a compression that zipfile cannot read; a name that is not text.
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} is damaged, or is no .npz file of arrays ({error}). {advice}") from error


def read_npy(path: Path, *, advice: str) -> np.ndarray:
    """Reads an ``.npy`` file, whose header must declare the size that the file has.

    Args:
      path: of the file.
      advice: a sentence on what to do where it is missing or damaged.

    Raises:
      UserError: the file is missing, damaged, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if (declared := _sum_declared_bytes(file)) != size:
                raise ValueError(f"its header declares {declared} bytes, the file has {size}")
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}). {advice}") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged, or is no .npy file of numbers ({error}). {advice}") from error


def _check_members(file: Any) -> None:
    """Raises ValueError where a member declares more than the file can hold."""
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.compress_size for member in members) > size:
            raise ValueError("its members overlap")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("two arrays have the same name")
        for member in members:
            if member.file_size > _LARGEST_EXPANSION * member.compress_size + _SMALLEST_BYTES:
                raise ValueError(f"{member.filename} declares {member.file_size} bytes")
            with archive.open(member) as opened:
                if (declared := _sum_declared_bytes(opened)) != member.file_size:
                    raise ValueError(
                        f"the header of {member.filename} declares {declared} bytes, its data has {member.file_size}"
                    )


def _sum_declared_bytes(file: Any) -> int:
    """Length of an ``.npy`` file, header included, as its header declares it."""
    version = np.lib.format.read_magic(file)
    shape, _, dtype = _read_header(file, version)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return file.tell() + math.prod(shape) * dtype.itemsize


def _read_header(file: Any, version: tuple[int, int]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:  # version 3 is for field names, which plain numbers do not have
        raise ValueError(f"its format version is {version}")
    return readers[version](file)
