"""Huge pages for the memory of a program, which make training on a Linux CPU faster."""

import contextlib
import os
import sys
from pathlib import Path

_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_VARIABLE, _OPTION = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


def restart_with_huge_pages() -> None:
    """Replaces this process by the same program with huge pages, where the kernel gives them only to those who ask.

    A training step allocates its temporaries anew, and the first touch of every 4 KB page costs a page fault: tens of
    thousands per step. The C library (glibc 2.35 and later) asks for huge pages if an environment variable says so when
    the program starts, hence the restart. It takes the time in which Python starts and keeps the process id. A user who
    sets the option decides: ``GLIBC_TUNABLES=glibc.malloc.hugetlb=0`` trains without. Other C libraries ignore the
    variable. A program that cannot be started again runs on without.
    """
    options = os.environ.get(_VARIABLE, "")
    if _OPTION in options or not _kernel_waits_for_requests() or not _is_repeatable():
        return
    with_huge_pages = os.environ | {_VARIABLE: ":".join(filter(None, [options, f"{_OPTION}=1"]))}
    with contextlib.suppress(OSError):  # Python does not always know its own path
        os.execve(sys.executable, sys.orig_argv, with_huge_pages)


def _is_repeatable() -> bool:
    """Whether the command line of this process starts this program with these arguments.

    Not in a notebook, where code sets ``sys.argv``, nor if the program comes from standard input or another pipe, which
    can be read only once.
    """
    arguments = sys.argv[1:]
    return Path(sys.argv[0]).is_file() and sys.orig_argv[len(sys.orig_argv) - len(arguments) :] == arguments


def _kernel_waits_for_requests() -> bool:
    try:
        return "[madvise]" in _KERNEL.read_text()
    except OSError:  # not Linux, or a container without this file
        return False
