"""Recordings with a reason, as JSON lines next to the shards: those that were rejected and those that are doubtful."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mqmha_jax.errors import UserError
from mqmha_jax.json_file import parse_json

REJECTED_NAME = "rejected.jsonl"
"""Recordings that are not in the shards."""

DOUBTFUL_NAME = "doubtful.jsonl"
"""Recordings that are in the shards although they hold little speech or are clipped."""


class Finding(NamedTuple):
    """A recording, and what was found."""

    utterance: str
    path: str
    reason: str


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Writes one JSON object per line; a byte of a name that is not UTF-8 becomes an escape that Python reads back."""
    lines = [json.dumps(finding._asdict(), ensure_ascii=False) + "\n" for finding in findings]
    path.write_bytes("".join(lines).encode(errors="backslashreplace"))


def read_findings(path: Path) -> tuple[Finding, ...]:
    """Reads what ``write_findings`` wrote; nothing if there is no such file.

    Raises:
      UserError: the file is damaged.
    """
    if not path.is_file():
        return ()
    # Only "\n" ends a line: names may hold other characters that Python's splitlines takes for an end.
    lines = enumerate(path.read_bytes().split(b"\n"), start=1)
    return tuple(parse_finding(_parse(path, number, line), f"{path}:{number}") for number, line in lines if line)


def parse_finding(value: Any, where: str) -> Finding:
    """The finding that a JSON object holds.

    Raises:
      UserError: it is not of this form.
    """
    fields = Finding._fields
    if not isinstance(value, dict) or value.keys() != {*fields} or not all(type(v) is str for v in value.values()):
        raise UserError(f"{where}: not an object of the texts {', '.join(fields)}. {_ADVICE}")
    return Finding(**value)


_ADVICE = "The file is damaged: prepare the shards again."


def _parse(path: Path, number: int, line: bytes) -> Any:
    return parse_json(line, dict, where=f"{path}:{number}", advice=_ADVICE)
