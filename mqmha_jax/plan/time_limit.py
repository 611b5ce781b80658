"""Waits for work that cannot be interrupted, such as a compilation: reports its progress and gives up after a limit."""

import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from mqmha_jax.errors import UserError

Result = TypeVar("Result")

REPORT_EVERY_SECONDS = 30.0


def run_within(
    work: Callable[[], Result],
    *,
    limit_seconds: float | None,
    progress: Callable[[str], None],
    report_every_seconds: float = REPORT_EVERY_SECONDS,
) -> Result:
    """Runs ``work`` in a thread of its own and waits for its result.

    The compiler holds neither Python's lock nor answers to a signal. In a thread it leaves this one free to report, to
    give up and to obey Ctrl-C. A thread that is given up runs on until the process ends.

    Args:
      work: what takes long.
      limit_seconds: when to give up; None: never.
      progress: receives a line every ``report_every_seconds``.
      report_every_seconds: interval of the reports.

    Returns:
      The result of ``work``; its exceptions are raised here.

    Raises:
      UserError: ``work`` took longer than the limit.
    """
    answers: queue.Queue[tuple[Result | None, BaseException | None]] = queue.Queue()

    def answer() -> None:
        try:
            answers.put((work(), None))
        except BaseException as error:  # raised again by the thread that waits
            answers.put((None, error))

    started = time.monotonic()
    threading.Thread(target=answer, name="compilation", daemon=True).start()
    while True:
        passed = time.monotonic() - started
        left = float("inf") if limit_seconds is None else limit_seconds - passed
        if left <= 0:
            raise UserError(
                f"The compiler gave no answer within the time limit of {_minutes(passed)}. Other programs on this "
                "machine slow it down. Try again when they have ended, or allow more time with --time-limit MINUTES "
                "(0: no limit)."
            )
        try:
            result, error = answers.get(timeout=min(report_every_seconds, left))
        except queue.Empty:
            passed = time.monotonic() - started
            if limit_seconds is None:
                progress(f"  still compiling after {_minutes(passed)}")
            elif passed < limit_seconds:
                progress(f"  still compiling after {_minutes(passed)} of at most {_minutes(limit_seconds)}")
            continue
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # work has returned


def _minutes(seconds: float) -> str:
    return f"{round(seconds / 60, 1):g} min"
