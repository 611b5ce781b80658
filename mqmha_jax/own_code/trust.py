"""Which code of their own users have run already, and so may run again without ``--allow-code``."""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mqmha_jax.errors import UserError
from mqmha_jax.own_code.contents import hash_code
from mqmha_jax.own_code.names import code_names, split_name

_allowed = ContextVar("code_allowed", default=False)


@contextmanager
def code_allowed(allowed: bool = True) -> Iterator[None]:
    """While inside, code that this user did not train with may run, if ``allowed``."""
    before = _allowed.set(allowed or _allowed.get())
    try:
        yield
    finally:
        _allowed.reset(before)


def trust_code(values: Any) -> None:
    """Notes that this user runs the code that a configuration names, which the user's own training runs already.

    Raises:
      UserError: a file cannot be read.
    """
    hashes = hash_code(values)
    for name in code_names(values):
        file, attribute = split_name(name)
        _write_note(_locate_note(hashes[file], attribute))
        _write_note(_locate_note(hashes[file], attribute, Path(file)))


def require_trust(values: Any, *, where: str) -> None:
    """Refuses a configuration that is data, such as a JSON file, if it names code that this user did not train with.

    The file must lie where the user trained with it: beside it in a received folder, others could be imported.

    Args:
      values: its nested dictionaries.
      where: names it in the message.

    Raises:
      UserError: names the file.
    """
    for name in code_names(values):
        file, attribute = split_name(name)
        digest = hash_code({"name": name})[file]
        allowed = _allowed.get() or _locate_note(digest, attribute, Path(file)).exists()
        _require(allowed, attribute, Path(file).absolute(), where)


def require_code(digest: str | None, attribute: str, file: Path, *, where: str) -> None:
    """Refuses code that is neither allowed nor trusted.

    Args:
      digest: hash of a copy of it; None: there is no copy, so that only ``--allow-code`` allows it.
      attribute: what runs in it.
      file: its path, for the message.
      where: what names it, for the message.

    Raises:
      UserError: names the file.
    """
    _require(
        _allowed.get() or (digest is not None and _locate_note(digest, attribute).exists()), attribute, file, where
    )


def _require(allowed: bool, attribute: str, file: Path, where: str) -> None:
    if not allowed:
        raise UserError(
            f"{where} runs code, {attribute} in {file}, that you have not trained with on this machine. Read the file: "
            "it can do anything that you can. To run it, add --allow-code (in Python: allow_code=True)."
        )


def _locate_note(digest: str, attribute: str, file: Path | None = None) -> Path:
    """Where it is noted that this user runs an attribute of code with this hash: one empty file, never rewritten.

    With ``file``, that the user runs this very file and not only a copy of it.
    """
    key = f"{digest}:{attribute}" + (f":{file.resolve()}" if file else "")
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "mqmha_jax" / "trusted_code" / hashlib.sha256(key.encode()).hexdigest()


def _write_note(note: Path) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
    except OSError as error:
        logging.getLogger(__name__).warning(
            "%s cannot be written (%s): this run has your own code and will need --allow-code.",
            note.parent,
            error.strerror,
        )
