"""Runs the contenders of a benchmark as separate processes in turns, so that drifts of the machine affect all alike.

A contender gets ready, prints one line of JSON and then does what each line of its standard input orders,
``NAME NUMBER``, and answers with a line of JSON. Between turns it waits. By hand:

    echo "steps 5" | python benchmarks/torch_train_step.py
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click

CHECKOUT = click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)
"""Type of an option for another checkout of the project."""

HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Environment of all contenders: `mqmha train` restarts itself with it, and PyTorch gains from it as well."""


class ContenderError(Exception):
    """A contender ended before it answered; the message says why."""


def take_turns(opening: Mapping[str, Any], orders: Mapping[str, Callable[[int], Mapping[str, Any]]]) -> None:
    """Answers a contender's orders until standard input ends.

    Args:
      opening: answer that says that the contender is ready.
      orders: name of each order to a function from its number to the answer.
    """
    print(json.dumps(opening), flush=True)
    for line in sys.stdin:
        name, number = line.split()
        print(json.dumps(orders[name](int(number))), flush=True)


def rotate(names: Sequence[str], number: int) -> list[str]:
    """Returns the names with another one first for each number, so that each contender goes first equally often.

    That holds for turns and for starts: on virtual machines, the first of several processes of one program can be a
    quarter slower than the others for its whole life. We do not know why.
    """
    first = number % len(names) if names else 0
    return [*names[first:], *names[:first]]


def with_package_of(checkout: Path, command: Sequence[str]) -> list[str]:
    """Returns the command of the same contender with the package of another checkout, to compare before and after."""
    return ["env", f"PYTHONPATH={checkout}", *command]


def peak_process_bytes() -> int:
    """Returns the peak memory of this process, interpreter, libraries and compiler included."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Contender:
    """A contender's process, seen from the driver; it ends with the context."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts the process.

        Args:
          command: command to run.
          environment: variables to add to those of this process.
        """
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def answer(self) -> dict[str, Any]:
        """Reads the next line that the process prints.

        Raises:
          ContenderError: the process ended instead.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines() or ["nothing"]
        raise ContenderError(f"ended with status {self._process.wait()} and said: {said[-1][:300]}")

    def ask(self, order: str, number: int) -> dict[str, Any]:
        """Gives one order and waits for the answer.

        Raises:
          ContenderError: the process ended instead.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer says why
            print(order, number, file=self._process.stdin, flush=True)
        return self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()
        self._errors.close()
