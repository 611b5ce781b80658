"""Unpacks tar archives: all of it or nothing, only below the target, no links, and no more than the disk holds."""

import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from mqmha_jax.errors import UserError

MAX_EXPANSION = 100
"""Compressed audio hardly expands; an archive that expands more than this factor is probably malicious."""

HARMLESS_BYTES = 100_000_000
"""Bytes that even the smallest archive may expand to, because lists compress well."""

BYTES_PER_MEMBER = 512
"""Minimum number of bytes counted for a member, because many empty files fill a disk too."""


def extract(archive: Path, directory: Path) -> None:
    """Unpacks an archive into a folder, next to the files that are there already.

    It is unpacked in a temporary folder and moved into place; files that exist are kept.

    Args:
      archive: tar, compressed or not.
      directory: created if it is missing.

    Raises:
      UserError: the archive is damaged, expands too far, holds links or devices, or a name in it leads out of the
        folder; it holds a folder where a file exists, or the reverse; or the disk is full. Nothing is left in the
        folder then.
    """
    growing = directory / f".partial-{archive.name}.unpacked"
    shutil.rmtree(growing, ignore_errors=True)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as file:
            file.extractall(growing, filter=_member_check(archive, directory))
        _refuse_conflicts(archive, growing, directory)
        _move(growing, directory)
    except tarfile.FilterError as error:
        raise _distrust(archive, str(error)) from error
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{archive}: cannot be unpacked in {directory} ({reason}). If the disk has room, the archive is damaged: "
            "download it again."
        ) from error
    finally:
        shutil.rmtree(growing, ignore_errors=True)


def _member_check(archive: Path, directory: Path) -> Callable[[tarfile.TarInfo, str], tarfile.TarInfo | None]:
    """A filter for ``extractall`` that also refuses links, and sizes before they are written."""
    free_bytes = shutil.disk_usage(directory).free
    most_bytes = max(HARMLESS_BYTES, MAX_EXPANSION * archive.stat().st_size)
    num_bytes = 0

    def check(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
        nonlocal num_bytes
        if member.issym() or member.islnk():
            raise _distrust(archive, f"{member.name!r} is a link to {member.linkname!r}")
        num_bytes += max(member.size, BYTES_PER_MEMBER)
        if num_bytes > most_bytes:
            raise _distrust(archive, f"{member.name!r} would expand it to more than {MAX_EXPANSION} times its size")
        if num_bytes > free_bytes:
            raise UserError(
                f"{archive}: is not unpacked: it needs more than the {free_bytes / 1e9:.1f} GB that are free in "
                f"{directory}. Free some space or choose another folder."
            )
        return tarfile.data_filter(member, destination)

    return check


def _distrust(archive: Path, reason: str) -> UserError:
    return UserError(f"{archive}: is not unpacked: {reason}. Do not trust this archive.")


def _refuse_conflicts(archive: Path, source: Path, target: Path) -> None:
    """A file does not stand for a folder: what is in it would be lost."""
    kinds = {True: "a folder", False: "a file"}
    for entry in sorted(source.iterdir()):
        there = target / entry.name
        if there.exists() and there.is_dir() != entry.is_dir():
            raise UserError(
                f"{archive}: is not unpacked: it holds {kinds[entry.is_dir()]} in place of {there}, which is "
                f"{kinds[there.is_dir()]}. Move that away, or choose another folder."
            )
        if there.is_dir():
            _refuse_conflicts(archive, entry, there)


def _move(source: Path, target: Path) -> None:
    """Moves what is not there yet; a rename is whole or did not happen."""
    for entry in sorted(source.iterdir()):
        there = target / entry.name
        if not there.exists():
            os.rename(entry, there)
        elif entry.is_dir() and there.is_dir():
            _move(entry, there)
