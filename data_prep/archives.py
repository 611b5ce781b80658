"""Unpacking of tar archives, all of it or nothing, and nowhere but in the target."""

import os
import shutil
import tarfile
import zlib
from pathlib import Path

from mqmha_jax.errors import UserError


def extract(archive: Path, directory: Path) -> None:
    """Unpacks an archive beside what is in a folder already.

    It is unpacked beside and moved into place, folder by folder as far as those are new; a file that is there is kept.

    Args:
      archive: tar, compressed or not.
      directory: made if it is not there.

    Raises:
      UserError: the archive is damaged, a name in it leads out of the folder, it holds devices, or the disk is full;
        nothing is left in the folder then.
    """
    growing = directory / f".partial-{archive.name}.unpacked"
    shutil.rmtree(growing, ignore_errors=True)
    try:
        with tarfile.open(archive) as file:
            file.extractall(growing, filter="data")
        _move(growing, directory)
    except tarfile.FilterError as error:
        raise UserError(f"{archive}: is not unpacked: {error}. Do not trust this archive.") from error
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{archive}: can not be unpacked in {directory} ({reason}). If the disk has room, the archive is damaged: "
            "download it again."
        ) from error
    finally:
        shutil.rmtree(growing, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    """Moves what is not there yet; a rename is whole or did not happen."""
    for entry in sorted(source.iterdir()):
        there = target / entry.name
        if not there.exists():
            os.rename(entry, there)
        elif entry.is_dir() and there.is_dir():
            _move(entry, there)
