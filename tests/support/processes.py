"""Finds processes of this machine by a mark in their environment, which children inherit."""

import time
from collections.abc import Callable
from pathlib import Path


def processes_with(mark: str) -> dict[int, str]:
    """Lists number and command of every living process with ``NAME=value`` in its environment."""
    found = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            try:
                if mark.encode() in (directory / "environ").read_bytes().split(b"\0"):
                    found[int(directory.name)] = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it ended meanwhile, or belongs to another user
                continue
    return found


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Waits for a condition; returns False if it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
