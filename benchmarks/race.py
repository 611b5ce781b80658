"""Lets contenders do one piece of work, such as a pooling and its gradient, in turns; see ``turns.py``.

Both sides use this file, so it imports neither JAX nor PyTorch. It reads a process's memory from ``/proc`` (Linux).
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from turns import HUGE_PAGES, Contender, ContenderError, rotate, take_turns


def serve(
    work: Callable[[], Any],
    save: Callable[[Any], None],
    opening: Mapping[str, Any],
    device_bytes: Callable[[], tuple[int, int]] | None = None,
) -> None:
    """Serves a contender: does the work once, then in each turn as often as the time allows.

    Args:
      work: returns when the work is done.
      save: saves the result of the first call for comparison.
      opening: facts to report in addition to time and memory of the first call.
      device_bytes: returns the present and the peak memory of an accelerator; None: the memory is this process's.
    """
    held, _ = (device_bytes or _process_bytes)()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    start = time.perf_counter()
    result = work()
    first_seconds = time.perf_counter() - start
    _, peak = (device_bytes or _process_bytes)()
    save(result)
    del result

    def turn(milliseconds: int) -> dict[str, float]:
        """Returns medians over the calls of a turn."""
        end = time.perf_counter() + milliseconds / 1000
        times = [_times(work)]
        while time.perf_counter() < end:
            times.append(_times(work))
        seconds, processor_seconds = map(statistics.median, zip(*times, strict=True))
        return {"seconds": seconds, "processor_seconds": processor_seconds}

    own = {"first_seconds": first_seconds, "held_bytes": held, "peak_bytes": peak}
    take_turns({**opening, **own}, {"milliseconds": turn})


def race(
    commands: Mapping[str, Sequence[str]], *, rounds: int, milliseconds: int, restarts: int = 1
) -> dict[str, dict[str, Any]]:
    """Starts the contenders and lets them take turns.

    Args:
      commands: command of each contender; all stay in memory from the first to the last round.
      rounds: number of turns of each contender after a start.
      milliseconds: length of a turn, which has at least one call.
      restarts: times that all contenders start anew, each time with another one first (see ``rotate``).

    Returns:
      The answers of each contender and the medians over its turns; a contender that opens without work takes no turn.

    Raises:
      click.ClickException: a contender ended early, for example because its interpreter has no PyTorch.
    """
    found: dict[str, dict[str, Any]] = {}
    turns: dict[str, list[dict[str, Any]]] = {}
    for start in range(restarts):
        with contextlib.ExitStack() as stack:
            contenders: dict[str, Contender] = {}
            for name in rotate([*commands], start):
                contender = stack.enter_context(Contender(commands[name], HUGE_PAGES))
                found[name] = _of(name, contender.answer)
                if "first_seconds" in found[name]:
                    contenders[name] = contender
            for _ in range(rounds):
                for name, contender in contenders.items():
                    answer = _of(name, partial(contender.ask, "milliseconds", milliseconds))
                    turns.setdefault(name, []).append(answer)
    for name, answers in turns.items():
        found[name] |= {key: statistics.median(answer[key] for answer in answers) for key in answers[0]}
    return found


def available_bytes() -> int:
    """Returns the memory that the machine can still give to a process."""
    return _kilobytes("/proc/meminfo", "MemAvailable") * 1024


def _process_bytes() -> tuple[int, int]:
    return _kilobytes("/proc/self/status", "VmRSS") * 1024, _kilobytes("/proc/self/status", "VmHWM") * 1024


def _kilobytes(path: str, field: str) -> int:
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _of(name: str, answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return answer()
    except ContenderError as error:
        raise click.ClickException(
            f"{name!r} {error} (PyTorch's part needs an interpreter with torch, numpy and click: --torch-python PATH)"
        ) from error


def _times(work: Callable[[], Any]) -> tuple[float, float]:
    start, processor_start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - processor_start
