"""The lines of a run's log: JSON with a checksum. Readers need no TensorBoard, which takes long to import."""

import json
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mqmha_jax.atomic import write_bytes, write_text
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import parse_json
from mqmha_jax.runs.run_files import LOG_NAME

_CHECKSUM = "crc32"  # the last field of every line


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


def drop_lines_after(path: Path, step: int) -> None:
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
    write_text(path, "".join(format_line(line) for line in kept))


def format_line(values: Mapping[str, Any]) -> str:
    """Returns the values as a line of the log, with a checksum."""
    return json.dumps({**values, _CHECKSUM: _checksum(values)}) + "\n"
