"""Stages of a long job: each runs once for given inputs, prints its cost, and resumes after a failure.

A stage works in a folder ``NAME-KEY``. The key is a hash of the stage's settings, of the content of its input files and
of the keys of the stages before it. So a changed input makes a new folder, as do all stages after it; nothing is
overwritten or removed, and to go back to earlier inputs finds the earlier results. ``stage.json`` in the folder is
written last: a folder without it is unfinished, and the stage works on in it.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mqmha_jax.atomic import write_json
from mqmha_jax.errors import UserError
from mqmha_jax.file_hash import hash_file
from mqmha_jax.json_file import read_json, read_sealed_json, write_sealed_json
from mqmha_jax.say import Say

RECORD, _ATTEMPTS = "stage.json", "attempts.txt"
_KEY_DIGITS = 10


class Cost(NamedTuple):
    """The estimated cost of a stage.

    Attributes:
      disk_bytes: what it writes.
      seconds: how long it works.
      how: what the estimate is made of.
    """

    disk_bytes: float = 0.0
    seconds: float = 0.0
    how: str = ""

    def __str__(self) -> str:
        hours = f"{self.seconds / 3600:,.1f} h" if self.seconds >= 360 else f"{self.seconds / 60:.1f} min"
        return f"about {self.disk_bytes / 1e9:,.1f} GB, {hours}" + (f" ({self.how})" if self.how else "")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Attributes:
      name: of the stage, and the start of its folder's name.
      root: folder of all stages.
      work: ``(folder) -> facts``; it fills the folder, resumes what a killed call left there, and returns facts for
        the record as JSON values: checksums of its results, numbers of steps.
      inputs: content hash of each file or folder that the stage reads, by a name that does not depend on the machine.
      settings: everything else that decides the result, as JSON values.
      after: stages whose results this one reads.
      cost: what it takes; called when the stage is shown.
      shown: the commands that it runs, for people.
    """

    name: str
    root: Path
    work: Callable[[Path], Mapping[str, Any]]
    inputs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    after: Sequence["Stage"] = ()
    cost: Callable[[], Cost] = Cost
    shown: Callable[[Path], Sequence[str]] = lambda folder: ()

    @cached_property
    def key(self) -> str:
        """Hash of everything that determines the result."""
        parts = [self.name, dict(self.inputs), dict(self.settings), [stage.key for stage in self.after]]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]

    @property
    def folder(self) -> Path:
        """Where it works."""
        return self.root / f"{self.name}-{self.key}"

    @property
    def is_done(self) -> bool:
        """Whether its result is there."""
        return (self.folder / RECORD).is_file()

    def record(self) -> dict[str, Any]:
        """What was noted when it was done: ``facts``, ``seconds`` of work, ``attempts``.

        Raises:
          UserError: it is not done, or the record was changed.
        """
        return read_sealed_json(self.folder / RECORD, advice=f"Remove the folder {self.folder} to do the stage again.")


def run_stages(stages: Sequence[Stage], *, until: str | None, dry_run: bool, say: Say) -> None:
    """Runs the unfinished stages, in order.

    Args:
      stages: in an order in which each comes after those it needs.
      until: name of the last stage to do; None: all.
      dry_run: only show the plan, with the cost of every stage.
      say: receives sentences.

    Raises:
      UserError: a stage fails, ``until`` names none, or another process works in the same folder.
    """
    names = [stage.name for stage in stages]
    if until is not None and until not in names:
        raise UserError(f"--until {until}: no stage has this name. Stages, in order: {', '.join(names)}.")
    wanted = stages[: names.index(until) + 1] if until else stages
    if dry_run:
        for number, stage in enumerate(wanted, start=1):
            say(f"{number}. {stage.name}: {_state(stage)}")
            for command in stage.shown(stage.folder):
                say(f"     {command}")
        costs = [stage.cost() for stage in wanted if not stage.is_done]
        say(f"To do: {Cost(sum(cost.disk_bytes for cost in costs), sum(cost.seconds for cost in costs))}.")
        return
    with _lock(stages[0].root):
        for number, stage in enumerate(wanted, start=1):
            say(f"{number}. {stage.name}: {_state(stage)}")
            if not stage.is_done:
                _do(stage)


def _state(stage: Stage) -> str:
    if stage.is_done:
        return f"done, in {stage.folder.name}"
    return f"{'resumes' if stage.folder.exists() else 'to do'}, {stage.cost()}, in {stage.folder.name}"


def _do(stage: Stage) -> None:
    stage.folder.mkdir(parents=True, exist_ok=True)
    attempts = stage.folder / _ATTEMPTS
    with attempts.open("a") as file:  # one byte each: a killed attempt cannot say how long it took
        file.write(".")
    start = time.perf_counter()
    facts = stage.work(stage.folder)
    record = {
        "stage": stage.name,
        "key": stage.key,
        "inputs": dict(stage.inputs),
        "settings": dict(stage.settings),
        "after": {before.name: before.key for before in stage.after},
        "facts": dict(facts),
        "seconds": round(time.perf_counter() - start, 1),
        "attempts": attempts.stat().st_size,
    }
    write_sealed_json(stage.folder / RECORD, record)


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"Another process works in {root}; wait for it, or give another --work.") from None
        yield


class Checksums:
    """SHA-256 of files; one is read again only if its size or its time of change differs. A folder's is of a list."""

    def __init__(self, path: Path) -> None:
        """Reads what is known.

        Args:
          path: JSON file that keeps the sums.

        Raises:
          UserError: it is damaged.
        """
        self._path = path
        advice = "Remove it: the sums are computed again."
        self._known: dict[str, list[Any]] = read_json(path, dict, advice=advice) if path.is_file() else {}

    def of(self, path: Path) -> str:
        """The sum of a file; or that of the names and sizes of all files in a folder, because reading them takes hours.

        Raises:
          UserError: it cannot be read.
        """
        try:
            if path.is_dir():
                files = sorted(one for one in path.rglob("*") if one.is_file())
                lines = [f"{one.relative_to(path).as_posix()} {one.stat().st_size}" for one in files]
                return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
            result = self._of_file(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}).") from error
        write_json(self._path, self._known)
        return result

    def _of_file(self, path: Path) -> str:
        stat = path.stat()
        name, mark = os.path.abspath(path), [stat.st_size, stat.st_mtime_ns]
        known = self._known.get(name)
        if known is None or known[:2] != mark:
            known = [*mark, hash_file(path)]
            self._known[name] = known
        return str(known[2])
