"""Reads JSON files with readable errors, and sealed JSON files, whose checksum proves that they have not changed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from mqmha_jax.atomic import write_json
from mqmha_jax.errors import UserError

Value = TypeVar("Value")

SEAL = "content_sha256"
"""The key under which a sealed object holds the checksum of all others."""


def read_json(path: Path, kind: type[Value], *, advice: str) -> Value:
    """Reads a JSON file.

    Args:
      path: of the file.
      kind: what it must hold: ``dict``, ``list``, ``str``, ``int`` or ``float``.
      advice: a sentence on what to do where it is missing or damaged.

    Raises:
      UserError: the file is missing, cannot be read, is not JSON, is nested too deeply, has a key twice in one object,
        or holds something else.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}). {advice}") from error
    return parse_json(text, kind, where=str(path), advice=advice)


def parse_json(text: str | bytes, kind: type[Value], *, where: str, advice: str) -> Value:
    """Reads JSON from a text, such as one line of a file.

    Args:
      text: in UTF-8 where it is bytes.
      kind, advice: as for ``read_json``.
      where: names the text: a path, or a path and a line.

    Raises:
      UserError: as ``read_json``.
    """
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(decoded, object_pairs_hook=_make_object)
    except RecursionError:
        raise UserError(f"{where} is not valid: its JSON is nested too deeply. {advice}") from None
    except ValueError as error:  # of JSON, of UTF-8, of a number with thousands of digits
        raise UserError(f"{where} is not valid JSON ({error}). {advice}") from None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind in (int, float)):
        raise UserError(f"{where} holds {_describe(value)}, not {_WORDS[kind]}. {advice}")
    return value


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object; Python would keep the last value of a key that is there twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key in made if [name for name, _ in pairs].count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return made


def write_sealed_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a JSON object together with the checksum of its content, for ``read_sealed_json``.

    Raises:
      UserError: the file cannot be written.
    """
    assert SEAL not in value
    write_json(path, value | {SEAL: seal_of(value)})


def read_sealed_json(path: Path, *, advice: str) -> dict[str, Any]:
    """Reads what ``write_sealed_json`` wrote; any changed value is refused.

    Args:
      path: of the file.
      advice: a sentence on what to do where it is missing or damaged.

    Raises:
      UserError: as ``read_json``, or the content differs from what was written.
    """
    return unseal(read_json(path, dict, advice=advice), where=str(path), advice=advice)


def read_versioned_json(path: Path, version: int, fields: Mapping[str, Any], *, advice: str) -> dict[str, Any]:
    """Reads a sealed object that has a ``format_version`` and certain fields.

    Args:
      path: of the file.
      version: the newest one that this program reads.
      fields: as for ``require_fields``.
      advice: a sentence on what to do where it is missing or damaged.

    Raises:
      UserError: as ``read_sealed_json`` and ``require_fields``, or a newer program wrote it.
    """
    content = read_sealed_json(path, advice=advice)
    require_fields(content, {"format_version": int}, where=str(path), advice=advice)
    if content["format_version"] > version:
        raise UserError(
            f"{path} has format version {content['format_version']}; this program reads versions up to {version}. "
            "Update mqmha_jax."
        )
    require_fields(content, fields, where=str(path), advice=advice)
    return content


def unseal(value: dict[str, Any], *, where: str, advice: str) -> dict[str, Any]:
    """A sealed object without its checksum.

    Raises:
      UserError: the checksum is missing or does not match.
    """
    content = {name: part for name, part in value.items() if name != SEAL}
    if value.get(SEAL) != seal_of(content):
        raise UserError(f"{where} differs from what was written: its checksum does not match. {advice}")
    return content


def require_fields(value: Mapping[str, Any], fields: Mapping[str, Any], *, where: str, advice: str) -> None:
    """Refuses a JSON object that lacks a field: a checksum proves that nothing changed, not that all is there.

    Args:
      value: the object; it may have more fields.
      fields: name -> type, such as ``dict[str, str]``, ``int`` or ``float | None``; ``tuple[int, str]`` is a list of
        these two.
      where, advice: as for ``parse_json``.

    Raises:
      UserError: names the first field that is missing or has another type.
    """
    for name, kind in fields.items():
        if name not in value:
            raise UserError(f"{where} is incomplete: it has no {name}. {advice}")
        if not _fits(value[name], kind):
            raise UserError(f"{where} is not valid: its {name} has another type than expected. {advice}")


def seal_of(value: dict[str, Any]) -> str:
    """SHA-256 of a JSON object, in hexadecimal: the same however the file is spaced and its keys are ordered."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _fits(value: Any, kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, parts[1]) for item in value.values())
    if origin is list:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(parts) and all(map(_fits, value, parts))
    return isinstance(value, kind) and not isinstance(value, bool)


_WORDS: dict[type, str] = {
    dict: "an object {...}",
    list: "a list [...]",
    str: "a string",
    int: "a whole number",
    float: "a number",
}


def _describe(value: Any) -> str:
    return "nothing (null)" if value is None else _WORDS.get(type(value), f"a {type(value).__name__}")
