"""Files that appear whole or not at all, and stay once they are there."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mqmha_jax.errors import UserError

# What file systems say that can not sync a directory, such as some network mounts; there is nothing to mend then.
_CAN_NOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``; what is written there takes its place when all went well.

    Whoever reads ``path``, also after the machine lost its power, finds the old file or the new one. One process at a
    time may write a file.

    Args:
      path: of the file; its directory is made if it is not there.

    Yields:
      A path with the same ending, to be written and closed.

    Raises:
      UserError: the disk is full, or the file can not be written there; an earlier version stays.
    """
    temporary = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync(path.parent)
    except OSError as error:
        raise UserError(
            f"{path}: can not be written ({error.strerror}); free some space or choose another directory. "
            "An earlier version of the file is left as it was."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Replace a text file, in UTF-8.

    Raises:
      UserError: as ``replacing``.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file.

    Raises:
      UserError: as ``replacing``.
    """
    write_text(path, json.dumps(value, indent=2) + "\n")


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a directory, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in _CAN_NOT_SYNC):
            raise
    finally:
        os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """``sync`` for all files and directories below a directory, and itself."""
    for parent, _, names in os.walk(directory):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))
