"""The log of a run: one JSON object per line, and the same numbers for TensorBoard."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from mqmha_jax.atomic import write_text
from mqmha_jax.errors import UserError

LOG_NAME = "metrics.jsonl"


class MetricsLog:
    """Appends measurements to ``metrics.jsonl`` and to TensorBoard event files in a work directory.

    A run that resumes at ``first_step`` overwrites what an interrupted run had logged from that step on, so that the
    log reads as if nothing had happened. Every line is handed to the system before ``write`` returns: a checkpoint that
    comes after it never knows more than the log. (TensorBoard's usual writer keeps two minutes back, in a thread whose
    death on a full disk would block the training.)
    """

    def __init__(self, workdir: Path, *, first_step: int, enabled: bool = True) -> None:
        """Open the log.

        Args:
          workdir: the run's directory.
          first_step: steps already done; later lines of an earlier attempt are dropped.
          enabled: False writes nothing, as all processes but the first.

        Raises:
          UserError: the log can not be written.
        """
        self._enabled = enabled
        if not enabled:
            return
        self._path = workdir / LOG_NAME
        _drop_lines_after(self._path, first_step)
        board = workdir / "tensorboard"
        with self._told():
            self._file = self._path.open("a", encoding="utf-8")
            board.mkdir(exist_ok=True)
            self._board = EventsWriter(str(board / "events"), f".{first_step}")
            start = SessionLog(status=SessionLog.START)  # makes TensorBoard forget what it knows from this step on
            self._board.write_event(Event(wall_time=time.time(), step=first_step + 1, session_log=start))
            self._board.flush()

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Log one measurement.

        Args:
          step: steps done when it was taken.
          kind: ``"train"`` or ``"dev"``.
          values: name -> number.

        Raises:
          UserError: the disk is full, or the log can not be written for another reason.
        """
        if not self._enabled:
            return
        self.note(step, kind, values)
        curves = [Summary.Value(tag=f"{kind}/{name}", simple_value=value) for name, value in values.items()]
        with self._told():
            self._board.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=curves)))
            self._board.flush()

    def note(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Log what is no curve: JSON values, for the file alone.

        Raises:
          UserError: as ``write``.
        """
        if not self._enabled:
            return
        line = {"step": step, "kind": kind, "time": round(time.time(), 3), **values}
        with self._told():
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Finish both logs."""
        if not self._enabled:
            return
        try:
            self._board.close()
        finally:
            self._file.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The error that is under way is the one to report, not that the same disk is still full.
        with contextlib.suppress(OSError) if error else self._told():
            self.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"The log {self._path} can not be written ({error.strerror}). Training stops; the last good checkpoint "
                "stays. Free some space (or mend the directory) and run the same command to go on."
            ) from error


def read_log(workdir: Path) -> list[dict]:
    """The lines of a run's log; a last line cut short by a crash is left out."""
    path = workdir / LOG_NAME
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def _drop_lines_after(path: Path, step: int) -> None:
    # What belongs to a checkpoint's step is logged before it is saved. Without a checkpoint the run starts anew.
    kept = [line for line in read_log(path.parent) if step > 0 and line["step"] <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
