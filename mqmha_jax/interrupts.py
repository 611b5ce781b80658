"""Ctrl-C ends a command at once, with one line and status 130.

Python's own handler raises KeyboardInterrupt wherever the main thread is: inside an import, whose lock other threads
then wait for; inside a callback of XLA, which drops the exception; or much later, when a compilation returns. Files
are replaced as a whole and locks end with the process (``atomic``), so the end needs no unwinding.
"""

import contextlib
import os
import signal
import threading
from types import FrameType

STATUS = 128 + signal.SIGINT

_ending = threading.Lock()


def end_on_interrupt() -> None:
    """Lets SIGINT end this process; for programs, before they import much. An ignored SIGINT stays ignored (``nohup``).

    A handler that is installed later, such as that of training, takes the place of this one for its time.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    signal.signal(signal.SIGINT, _end)
    # Handlers run when the main thread comes back to Python; the wake-up pipe tells a thread at once.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="interrupts", daemon=True).start()


def _watch(reader: int) -> None:
    while numbers := os.read(reader, 64):
        if signal.SIGINT in numbers and signal.getsignal(signal.SIGINT) is _end:
            _end(signal.SIGINT, None)


def _end(number: int, frame: FrameType | None) -> None:
    if not _ending.acquire(blocking=False):  # the other thread is about to end the process
        return
    # A handler may interrupt a write to sys.stderr, which must not be entered twice; hence its file descriptor.
    with contextlib.suppress(OSError):
        os.write(2, b"\nAborted.\n")
    os._exit(STATUS)
