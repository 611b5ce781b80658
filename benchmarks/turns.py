"""Contenders of a benchmark as processes of their own that take turns, so that drifts of a machine meet all of them.

A contender makes everything ready, prints one line of JSON and then does what each line of its standard input orders,
``NAME NUMBER``, with a line of JSON as the answer. Between turns it waits without work; by hand:

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
"""Type of an option that names another checkout of the project."""


class ContenderError(Exception):
    """A contender ended before it answered; says why."""


def take_turns(opening: Mapping[str, Any], orders: Mapping[str, Callable[[int], Mapping[str, Any]]]) -> None:
    """A contender's side: answers orders until standard input ends.

    Args:
      opening: what it has to say once it is ready.
      orders: by name, from the number given to the answer.
    """
    print(json.dumps(opening), flush=True)
    for line in sys.stdin:
        name, number = line.split()
        print(json.dumps(orders[name](int(number))), flush=True)


def with_package_of(checkout: Path, command: Sequence[str]) -> list[str]:
    """The same contender with the package of another checkout of the project, to tell before from after."""
    return ["env", f"PYTHONPATH={checkout}", *command]


def peak_process_bytes() -> int:
    """The most memory that this process ever had, interpreter, libraries and compiler included."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Contender:
    """The other side: a process that is started, asked, and ended with the context."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it.

        Args:
          command: to run.
          environment: beside that of this process.
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
        """The next line that it prints.

        Raises:
          ContenderError: it ended instead.
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
          ContenderError: it ended instead.
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
