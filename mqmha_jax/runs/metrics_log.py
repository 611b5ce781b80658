"""The log of a run: one JSON object per line, and the same numbers for TensorBoard."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from mqmha_jax.errors import UserError
from mqmha_jax.runs.log_lines import drop_lines_after, format_line
from mqmha_jax.runs.run_files import LOG_NAME


class MetricsLog:
    """Appends measurements to ``metrics.jsonl`` and to TensorBoard event files in a work directory.

    A run that resumes at ``first_step`` overwrites what the interrupted run logged after that step, so that the log
    has one line for each logged step. Each holds means over the steps since the line before; the first one after a
    resume averages only the steps since the checkpoint, which differs from an uninterrupted run if ``train.log_every``
    is above 1 and the checkpoint lies between two lines. Every line reaches the system before ``write`` returns, so a
    later checkpoint never knows more than the log. (TensorBoard's usual writer holds back two minutes, in a thread
    whose death on a full disk would block the training.)
    """

    def __init__(self, workdir: Path, *, first_step: int, enabled: bool = True) -> None:
        """Opens the log.

        Args:
          workdir: the run's directory.
          first_step: steps already done; later lines of an earlier attempt are dropped.
          enabled: False writes nothing, as in all processes but the first.

        Raises:
          UserError: the log cannot be written.
        """
        self._enabled = enabled
        if not enabled:
            return
        self._path = workdir / LOG_NAME
        drop_lines_after(self._path, first_step)
        board = workdir / "tensorboard"
        with self._name_the_log():
            self._path.touch()
            board.mkdir(exist_ok=True)
            self._board = EventsWriter(str(board / "events"), f".{first_step}")
            start = SessionLog(status=SessionLog.START)  # makes TensorBoard forget what it knows from this step on
            self._board.write_event(Event(wall_time=time.time(), step=first_step + 1, session_log=start))
            self._board.flush()

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Logs one measurement.

        Args:
          step: steps done when it was taken.
          kind: ``"train"`` or ``"dev"``.
          values: name -> number.

        Raises:
          UserError: the disk is full, or the log cannot be written for another reason.
        """
        if not self._enabled:
            return
        self.note(step, kind, values)
        curves = [Summary.Value(tag=f"{kind}/{name}", simple_value=value) for name, value in values.items()]
        with self._name_the_log():
            self._board.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=curves)))
            self._board.flush()

    def note(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Logs what is not a curve: JSON values, in the file only.

        Raises:
          UserError: as ``write``.
        """
        if not self._enabled:
            return
        line = {"step": step, "kind": kind, "time": round(time.time(), 3), **values}
        # Opened for every line: if somebody moves or deletes the log, the next line begins a new one.
        with self._name_the_log(), self._path.open("a", encoding="utf-8") as file:
            file.write(format_line(line))

    def close(self) -> None:
        """Finishes the log of TensorBoard; the file is complete after every line."""
        if self._enabled:
            self._board.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The first error is the one to report, not that the same disk is still full.
        with contextlib.suppress(OSError) if error else self._name_the_log():
            self.close()

    @contextlib.contextmanager
    def _name_the_log(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"The log {self._path} cannot be written ({error.strerror}). Training stops; the last good checkpoint "
                "stays. Free some space (or repair the directory) and run the same command to resume."
            ) from error
