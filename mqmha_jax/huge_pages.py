"""Huge pages for the memory of a program, which make training on a Linux CPU faster."""

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
    variable.
    """
    options = os.environ.get(_VARIABLE, "")
    if _OPTION in options or not _kernel_waits_for_requests():
        return
    os.environ[_VARIABLE] = ":".join(filter(None, [options, f"{_OPTION}=1"]))
    os.execv(sys.executable, sys.orig_argv)


def _kernel_waits_for_requests() -> bool:
    try:
        return "[madvise]" in _KERNEL.read_text()
    except OSError:  # not Linux, or a container without this file
        return False
