"""Files that appear whole or not at all, and stay once they are there."""

import errno
import fcntl
import glob
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mqmha_jax.errors import UserError

# Some file systems, such as some network mounts, cannot sync a directory and say so with these.
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)

TEMPORARY = ".partial-"
"""Begins the name of a file or directory that is not complete."""

# What `check_writable` writes and removes again: a disk that takes it is not quite full.
_TRIAL_BYTES = 2**20


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside ``path``; the file written there replaces ``path`` if no exception is raised.

    A reader of ``path``, even after a power failure, finds the old file or the new one. Every call has a temporary
    name of its own, so that processes and threads may write the same file at once: the last one stays.

    Args:
      path: of the file; its directory is made if it is missing. A link is followed. The permissions of an earlier
        version stay.

    Yields:
      A path with the same ending, to be written and closed.

    Raises:
      UserError: the disk is full, or the file cannot be written there; an earlier version stays.
    """
    try:
        path = _require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_beside(path) as temporary:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}). {_advise(error, 'choose another directory')}. An "
            "earlier version of the file is unchanged."
        ) from error


@contextmanager
def making_directory(path: Path) -> Iterator[Path]:
    """Gives a temporary directory beside ``path``, which becomes ``path`` if no exception is raised.

    Args:
      path: of the new directory; there must be nothing, or an empty directory, whose permissions stay.

    Yields:
      An empty directory of this call alone, to be filled.

    Raises:
      UserError: the disk is full, or the directory cannot be made there; nothing is left.
    """
    try:
        with growing_directory(path) as temporary:
            yield temporary
    except OSError as error:
        raise _refuse_directory(path, error) from error


@contextmanager
def growing_directory(path: Path) -> Iterator[Path]:
    """``making_directory`` for a block that does more than write: its ``OSError``s may be of other files and pass.

    Raises:
      UserError: the directory cannot be made there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        temporary, descriptor = _create_locked(path, _open_new_directory)
    except OSError as error:
        raise _refuse_directory(path, error) from error
    try:
        yield temporary
        sync_tree(temporary)
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replaces a text file, in UTF-8.

    Raises:
      UserError: as ``replacing``.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file.

    Raises:
      UserError: as ``replacing``.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Replaces a JSON file.

    Raises:
      UserError: as ``replacing``.
    """
    write_text(path, json.dumps(value, indent=2) + "\n")


def check_writable(path: Path) -> None:
    """Refuses an output file that cannot be written, before the work whose result it holds.

    Makes the directory if it is missing; the file itself, if there is one, stays as it is.

    Args:
      path: where ``replacing`` will write later.

    Raises:
      UserError: it is a directory, a device or write-protected, its directory cannot be made or written, or the disk
        is full.
    """
    _try_writing(path, named=path)


def check_writable_directory(directory: Path, *names: str) -> None:
    """``check_writable`` for an output that is a directory of files.

    Args:
      directory: made if it is missing.
      *names: of files that will be written there.

    Raises:
      UserError: something else has this name, the directory cannot be made or written, or one of the files cannot be
        replaced.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; the output is a directory. Give another name.")
    for name in names:
        _require_replaceable(directory / name)
    _try_writing(directory / "trial", named=directory)


def check_new_directory(directory: Path) -> None:
    """Refuses a directory that ``making_directory`` could not make, before the work whose result it holds.

    Raises:
      UserError: something has this name, or its parent cannot be made or written, or the disk is full.
    """
    if os.path.lexists(directory):
        raise UserError(f"{directory} already exists. Give a new directory, or remove this one first.")
    _try_writing(directory, named=directory)


def _try_writing(path: Path, named: Path) -> None:
    try:
        path = _require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_beside(path) as trial:
            trial.write_bytes(bytes(_TRIAL_BYTES))
            sync(trial)
    except OSError as error:
        raise UserError(
            f"{named} cannot be written ({error.strerror or error}). {_advise(error, 'choose another output')}; no "
            "work has been done yet."
        ) from error


def _advise(error: OSError, other_place: str) -> str:
    """What to do: more space helps only where space is what lacks."""
    lacks_space = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)
    return f"Free some space or {other_place}" if lacks_space else other_place.capitalize()


def _require_replaceable(path: Path) -> Path:
    """The path that a link leads to; refuses what must not be replaced by a file."""
    real = Path(os.path.realpath(path))
    if real.is_dir():
        raise UserError(f"{path} is a directory; give the path of a file, such as {path / 'NAME'}.")
    if real.exists() and not real.is_file():  # renaming over /dev/null or a pipe would destroy it
        raise UserError(f"{path} is a device or a pipe; give the path of a file.")
    if real.exists() and not os.access(real, os.W_OK):
        raise UserError(f"{path} is write-protected. Choose another output, or allow writing (chmod u+w).")
    return real


def _refuse_directory(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path} cannot be written ({error.strerror or error}). {_advise(error, 'give another directory')}."
    )


@contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    """An empty file with a name that nobody else has, locked while in use and removed afterwards."""
    _remove_leftovers(path)
    temporary, descriptor = _create_locked(path, _open_new_file)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


def _open_new_file(path: Path, permissions: int) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, permissions & 0o666)


def _open_new_directory(path: Path, permissions: int) -> int:
    path.mkdir(permissions)
    return os.open(path, os.O_RDONLY)


def _create_locked(path: Path, open_new: Callable[[Path, int], int]) -> tuple[Path, int]:
    """Makes a temporary file or directory with the permissions of what it will replace, if there is anything."""
    permissions = _permissions(path)
    while True:
        temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")
        # From the start, because nobody may read it who may not read the earlier version.
        descriptor = open_new(temporary, 0o777 if permissions is None else permissions)
        if permissions is not None:
            with suppress(OSError):  # a file system without permissions
                os.fchmod(descriptor, permissions)  # the umask has taken some away
        # Between these two lines another writer may take the file for abandoned and remove it; then try again.
        if try_lock(descriptor) and temporary.exists():
            return temporary, descriptor
        _remove(temporary)
        os.close(descriptor)


def _permissions(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _remove_leftovers(path: Path) -> None:
    """A temporary file or directory that nobody locks belongs to a process that was killed."""
    for leftover in path.parent.glob(f"{TEMPORARY}*-{glob.escape(path.name)}"):
        with suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY)
            try:
                if try_lock(descriptor, otherwise=False):
                    _remove(leftover)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def try_lock(descriptor: int, *, shared: bool = False, otherwise: bool = True) -> bool:
    """Whether this process now has the lock of an open file, which ends when the file is closed.

    Args:
      descriptor: of the file.
      shared: others may share the lock.
      otherwise: the answer of a file system without locks.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return otherwise
    return True


def sync(path: Path) -> None:
    """Waits until a file, or the list of names in a directory, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in _CANNOT_SYNC):
            raise
    finally:
        os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """``sync`` for a directory and all files and directories below it."""
    for parent, _, names in os.walk(directory):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))
