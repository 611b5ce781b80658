"""One piece of work, such as a pooling and its gradient, done in turns by contenders; see ``turns.py``.

Both sides use this file, so it imports neither JAX nor PyTorch. Memory of a process is read from ``/proc`` (Linux).
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from turns import Contender, ContenderError, take_turns


def serve(
    work: Callable[[], Any],
    save: Callable[[Any], None],
    opening: Mapping[str, Any],
    device_bytes: Callable[[], tuple[int, int]] | None = None,
) -> None:
    """A contender's side: does the work once, then in every turn as often as there is time for.

    Args:
      work: is done when it returns.
      save: takes the result of the first call, to be compared.
      opening: what to say beside time and memory of the first call.
      device_bytes: what an accelerator has in use, and the most that it had; None: the work lies in this process.
    """
    held, _ = (device_bytes or _process_bytes)()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    start = time.perf_counter()
    result = work()
    first_seconds = time.perf_counter() - start
    _, peak = (device_bytes or _process_bytes)()
    save(result)
    del result

    def turn(milliseconds: int) -> dict[str, float]:
        """Medians over the calls of a turn."""
        end = time.perf_counter() + milliseconds / 1000
        times = [_times(work)]
        while time.perf_counter() < end:
            times.append(_times(work))
        seconds, processor_seconds = map(statistics.median, zip(*times, strict=True))
        return {"seconds": seconds, "processor_seconds": processor_seconds}

    own = {"first_seconds": first_seconds, "held_bytes": held, "peak_bytes": peak}
    take_turns({**opening, **own}, {"milliseconds": turn})


def race(commands: Mapping[str, Sequence[str]], *, rounds: int, milliseconds: int) -> dict[str, dict[str, Any]]:
    """The driver's side.

    Args:
      commands: each starts a contender; all stay in memory from the first to the last round.
      rounds: of one turn for each.
      milliseconds: of a turn, which has one call at least.

    Returns:
      Of each contender what it said, and the medians over its turns; one that opens without having worked takes none.

    Raises:
      click.ClickException: a contender ended early, for example because its interpreter has no PyTorch.
    """
    with contextlib.ExitStack() as stack:
        found, contenders, turns = {}, {}, {name: [] for name in commands}
        for name, command in commands.items():
            contenders[name] = stack.enter_context(Contender(command, {}))
            found[name] = _of(name, contenders[name].answer)
            if "first_seconds" not in found[name]:
                del contenders[name], turns[name]
        for _ in range(rounds):
            for name, contender in contenders.items():
                turns[name].append(_of(name, lambda contender=contender: contender.ask("milliseconds", milliseconds)))
    for name, answers in turns.items():
        found[name] |= {key: statistics.median(answer[key] for answer in answers) for key in answers[0]}
    return found


def available_bytes() -> int:
    """Memory that the machine could still give to a process."""
    return _kilobytes("/proc/meminfo", "MemAvailable") * 1024


def _process_bytes() -> tuple[int, int]:
    return tuple(_kilobytes("/proc/self/status", field) * 1024 for field in ("VmRSS", "VmHWM"))


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
