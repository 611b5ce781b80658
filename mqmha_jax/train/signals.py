"""Ends a run at the next step boundary when the user or a scheduler asks for it."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from mqmha_jax.interrupts import handle_signals, is_ignored

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_asked_by = signal.SIGTERM


def stop_status() -> int:
    """Exit status of a program that stopped on request.

    130 after Ctrl-C in this process; 143 after every other request, including one that another process received.
    """
    return 128 + (signal.SIGINT if _asked_by == signal.SIGINT else signal.SIGTERM)


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """While inside, SIGINT, SIGTERM and SIGHUP ask for an orderly stop.

    The first signal says so on standard error. A second SIGINT does what SIGINT did before. A SIGHUP that the process
    ignored before (``nohup``) stays ignored.

    Yields:
      A function that tells whether a stop was asked for.
    """
    requested = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        global _asked_by
        if not requested.is_set():
            _asked_by = signal.Signals(number)
            requested.set()
            _announce(number)
        elif number == signal.SIGINT:
            before = previous[signal.SIGINT]
            (before if callable(before) else signal.default_int_handler)(number, frame)

    numbers = [number for number in _SIGNALS if number != signal.SIGHUP or not is_ignored(number)]
    with handle_signals(numbers, handle) as previous:
        yield requested.is_set


def _announce(number: int) -> None:
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    again = " Press Ctrl-C again to stop at once without saving." if number == signal.SIGINT else ""
    # A handler may interrupt a write to sys.stderr, which must not be entered twice; hence its file descriptor.
    text = f"\n{name}: saving a checkpoint after this step, then stopping.{again}\n"
    with contextlib.suppress(OSError, ValueError, AttributeError):  # it may be closed, as after SIGHUP, or no file
        os.write(sys.stderr.fileno(), text.encode())
