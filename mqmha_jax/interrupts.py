"""Ctrl-C ends a command at once, with one line and status 130.

Python's own handler raises KeyboardInterrupt wherever the main thread is: inside an import, whose lock other threads
then wait for; inside a callback of XLA, which drops the exception; or much later, when a compilation returns. Files
are replaced as a whole and locks end with the process (``atomic``), so the end needs no unwinding.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType
from typing import Any

STATUS = 128 + signal.SIGINT

_ending = threading.Lock()


def end_on_interrupt() -> None:
    """Lets SIGINT end this process; programs call it before large imports. An ignored SIGINT stays ignored (``nohup``).

    A handler that is installed later, such as that of training, replaces this one while it is active.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    signal.signal(signal.SIGINT, _end)
    # Handlers run when the main thread comes back to Python; the wake-up pipe tells a thread at once.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="interrupts", daemon=True).start()


@contextlib.contextmanager
def handle_signals(
    numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object]
) -> Iterator[Mapping[signal.Signals, Any]]:
    """While inside, signals call a handler; only the main thread may set handlers, so elsewhere nothing changes.

    Args:
      numbers: of the signals.
      handler: of ``signal.signal``.

    Yields:
      The handlers before, by signal; empty outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield {}
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    # The watching thread reads late. It must not end the process for a signal that was handled here.
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield before
    finally:
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number, earlier in before.items():
            signal.signal(number, earlier)


def is_ignored(number: signal.Signals) -> bool:
    """Whether this process ignores a signal, as one that ``nohup`` or a shell's background started may."""
    return signal.getsignal(number) is signal.SIG_IGN


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
