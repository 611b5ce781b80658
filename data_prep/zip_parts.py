"""Unpacks a zip archive that its owners give in parts, without joining them on disk."""

import bisect
import io
import itertools
import lzma
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mqmha_jax.atomic import TEMPORARY
from mqmha_jax.errors import UserError

_COPIED_BYTES = 1 << 20


class JoinedFiles(io.RawIOBase):
    """Several files as one, for reading at any place."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Opens the files, in their order.

        Raises:
          OSError: one cannot be opened.
        """
        self._files = [path.open("rb") for path in paths]
        self._ends = list(itertools.accumulate(path.stat().st_size for path in paths))
        self._place = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a place, as ``io.IOBase``."""
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._ends[-1]}[whence]
        return self._place

    def tell(self) -> int:
        """The present place."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Reads up to the end of the file at the present place."""
        index = bisect.bisect_right(self._ends, self._place)
        if index == len(self._files):
            return 0
        file, start = self._files[index], self._ends[index - 1] if index else 0
        file.seek(self._place - start)
        with memoryview(buffer) as view:
            count = file.readinto(view[: self._ends[index] - self._place])
        self._place += count
        return count

    def close(self) -> None:
        """Closes all files."""
        for file in self._files:
            file.close()
        super().close()


def list_zip(parts: Sequence[Path]) -> list[zipfile.ZipInfo]:
    """The files in an archive.

    Args:
      parts: of the archive, in their order; one if it is whole.

    Raises:
      UserError: a part is missing or damaged, or a name leads out of the folder where the archive is unpacked.
    """
    with _open(parts) as archive:
        return _checked_members(parts, archive)


def unpack_zip(
    parts: Sequence[Path], directory: Path, *, progress: Callable[[zipfile.ZipInfo], object] = lambda member: None
) -> int:
    """Unpacks an archive; files that an interrupted call wrote stay.

    Args:
      parts: of the archive, in their order; one if it is whole.
      directory: created if it is missing. A file in it is whole, because it appears under its name when it is.
      progress: receives every file when it is there.

    Returns:
      Number of files in the archive.

    Raises:
      UserError: as ``list_zip``; or the disk is too small or full.
    """
    with _open(parts) as archive:
        members = _checked_members(parts, archive)
        directory.mkdir(parents=True, exist_ok=True)
        missing = [member for member in members if not _is_there(directory / member.filename, member)]
        needed, free = sum(member.file_size for member in missing), shutil.disk_usage(directory).free
        if needed > free:
            raise UserError(
                f"{parts[0]}: needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {directory}. Free some "
                "space or choose another folder."
            )
        for member in members:
            path = directory / member.filename
            if not _is_there(path, member):
                path.parent.mkdir(parents=True, exist_ok=True)
                _extract(parts, archive, member, path)
            progress(member)
    os.sync()
    return len(members)


def _open(parts: Sequence[Path]) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(io.BufferedReader(JoinedFiles(parts), _COPIED_BYTES))
        _require_all_bytes(archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{parts[0]}{' and its other parts' if len(parts) > 1 else ''}: not a whole zip archive ({error}). If a "
            f"part is missing or shorter than its owner's, put the whole one beside the others (here: "
            f"{', '.join(path.name for path in parts)}); or download the archive again."
        ) from error
    return archive


def _require_all_bytes(archive: zipfile.ZipFile) -> None:
    """The directory at the end says where each file starts; ``zipfile`` shifts these places by what lies before it."""
    start = min((member.header_offset for member in archive.infolist()), default=0)
    if start < 0:
        raise zipfile.BadZipFile(f"{-start:,} bytes before its last part are missing")


def _checked_members(parts: Sequence[Path], archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = [member for member in archive.infolist() if not member.is_dir()]
    for member in members:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(
                f"{parts[0]}: is not unpacked: {member.filename!r} is a link or leads out of the folder. Do not trust "
                "this archive."
            )
    return members


def _is_there(path: Path, member: zipfile.ZipInfo) -> bool:
    """Compares the checksum too: after a power failure, a file may have its size and lack its content."""
    if not path.is_file() or path.stat().st_size != member.file_size:
        return False
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_COPIED_BYTES):
            checksum = zlib.crc32(block, checksum)
    return checksum == member.CRC


def _extract(parts: Sequence[Path], archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        with archive.open(member) as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, _COPIED_BYTES)
        os.replace(temporary, path)  # unpack_zip syncs once: to sync each of a million files takes hours
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{parts[0]}: {member.filename!r} cannot be unpacked ({error}). If the disk has room, the archive is "
            "damaged: download it again."
        ) from error
    except RuntimeError as error:  # encrypted, or a compression that Python does not know
        raise UserError(
            f"{parts[0]}: {member.filename!r} cannot be unpacked here ({error}). Unpack the archive with another "
            "program, such as 7z, and give the folder."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
