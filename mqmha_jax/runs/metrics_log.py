"""The log of a run: one JSON object per line, and the same numbers for TensorBoard."""

import contextlib
import json
import logging
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from mqmha_jax.atomic import write_bytes, write_text
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import parse_json
from mqmha_jax.runs.run_files import LOG_NAME

_CHECKSUM = "crc32"  # the last field of every line


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
        _drop_lines_after(self._path, first_step)
        board = workdir / "tensorboard"
        with self._name_the_log():
            self._file = self._path.open("a", encoding="utf-8")
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
        with self._name_the_log():
            self._file.write(_line(line))
            self._file.flush()

    def close(self) -> None:
        """Finishes both logs."""
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


def read_log(workdir: Path) -> list[dict[str, Any]]:
    """The readable lines of a run's log, in order; what is damaged is left out and reported as a warning.

    Every line carries a checksum; a log in which none does is of an earlier version and is taken as it is. A last line
    without its line break, which a crash cut short or a training is writing, is not damage.
    """
    lines, damaged = _parse_log(workdir / LOG_NAME)
    if damaged:
        logging.getLogger(__name__).warning(
            "%s: line%s %s cannot be read and %s left out.",
            workdir / LOG_NAME,
            "s" if len(damaged) > 1 else "",
            ", ".join(str(number) for number, _ in damaged),
            "are" if len(damaged) > 1 else "is",
        )
    return lines


def _parse_log(path: Path) -> tuple[list[dict[str, Any]], list[tuple[int, bytes]]]:
    """The lines that can be read, and number and content of those that cannot."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], []
    *whole, _ = content.split(b"\n")
    sealed = f'"{_CHECKSUM}"'.encode() in content
    parsed = [_parse_line(text, sealed=sealed) for text in whole]
    damaged = [(number, whole[number - 1]) for number, line in enumerate(parsed, start=1) if line is None]
    return [line for line in parsed if line is not None], damaged


def _parse_line(text: bytes, *, sealed: bool) -> dict[str, Any] | None:
    """One line without its checksum; None where it is damaged."""
    try:
        line = parse_json(text, dict, where="", advice="")
    except UserError:
        return None
    checksum = line.pop(_CHECKSUM, None)
    whole = checksum == _checksum(line) if sealed else checksum is None
    return line if whole and isinstance(line.get("step"), int) and isinstance(line.get("kind"), str) else None


def _checksum(values: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}"


def _drop_lines_after(path: Path, step: int) -> None:
    """Keeps the lines up to a step; what cannot be read stays beside the log, so that nobody's numbers are deleted."""
    # What belongs to a checkpoint's step is logged before it is saved. Without a checkpoint the run starts anew.
    lines, damaged = _parse_log(path)
    if damaged and step > 0:
        aside = path.with_name(f"{path.name}.damaged")
        earlier = aside.read_bytes() if aside.exists() else b""
        known = set(earlier.split(b"\n"))  # a crash before the log is rewritten leaves its lines in both files
        write_bytes(aside, earlier + b"".join(text + b"\n" for _, text in damaged if text not in known))
        logging.getLogger(__name__).warning(
            "%s: %d damaged lines (%s) are now in %s; all others stay.",
            path,
            len(damaged),
            ", ".join(str(number) for number, _ in damaged),
            aside,
        )
    kept = [line for line in lines if step > 0 and line["step"] <= step]
    write_text(path, "".join(_line(line) for line in kept))


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps({**values, _CHECKSUM: _checksum(values)}) + "\n"
