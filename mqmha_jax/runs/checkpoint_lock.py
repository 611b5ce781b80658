"""Keeps a checkpoint from being removed while somebody reads it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mqmha_jax.atomic import try_lock
from mqmha_jax.runs.manifest import MANIFEST_NAME


@contextlib.contextmanager
def hold_checkpoint(directory: Path, *, alone: bool = False) -> Iterator[bool]:
    """Keeps a checkpoint from being removed while it is read: readers share a lock, who removes it needs it alone.

    Yields False if ``alone`` is asked for and somebody reads, and True where there is nothing to lock or no locking.
    """
    try:
        descriptor = os.open(directory / MANIFEST_NAME, os.O_RDONLY)
    except OSError:  # removed, or of a version without manifests
        yield True
        return
    try:
        yield try_lock(descriptor, shared=not alone)
    finally:
        os.close(descriptor)
