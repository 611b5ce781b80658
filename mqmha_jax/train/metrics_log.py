"""The log of a run: one JSON object per line, and the same numbers for TensorBoard."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX import SummaryWriter

LOG_NAME = "metrics.jsonl"


class MetricsLog:
    """Appends measurements to ``metrics.jsonl`` and to TensorBoard event files in a work directory.

    A run that resumes at ``first_step`` overwrites what an interrupted run had logged from that step on, so that the
    log reads as if nothing had happened.
    """

    def __init__(self, workdir: Path, *, first_step: int, enabled: bool = True) -> None:
        """Open the log.

        Args:
          workdir: the run's directory.
          first_step: steps already done; later lines of an earlier attempt are dropped.
          enabled: False writes nothing, as all processes but the first.
        """
        self._enabled = enabled
        if not enabled:
            return
        path = workdir / LOG_NAME
        _drop_lines_after(path, first_step)
        self._file = path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step + 1, max_queue=1)

    def write(self, step: int, kind: str, values: dict[str, float]) -> None:
        """Log one measurement.

        Args:
          step: steps done when it was taken.
          kind: ``"train"`` or ``"dev"``.
          values: name -> number.
        """
        if not self._enabled:
            return
        self.note(step, kind, values)
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def note(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Log what is no curve: JSON values, for the file alone."""
        if not self._enabled:
            return
        line = {"step": step, "kind": kind, "time": round(time.time(), 3), **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Finish both logs."""
        if not self._enabled:
            return
        self._file.close()
        self._board.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_log(workdir: Path) -> list[dict]:
    """The lines of a run's log; a last line cut short by a crash is left out."""
    path = workdir / LOG_NAME
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def _drop_lines_after(path: Path, step: int) -> None:
    # What belongs to a checkpoint's step is logged before it is saved. Without a checkpoint the run starts anew.
    kept = [line for line in read_log(path.parent) if step > 0 and line["step"] <= step]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
    os.replace(temporary, path)
