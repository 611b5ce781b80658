"""Losses, poolings and encoders of the user's own, ``FILE.py:NAME`` in a configuration: what runs, and what may run.

A run is data that people send each other, so loading one must not run what it brings along. Training copies such files
and the neighbours that they import into ``code/`` of the run, with their hashes, and notes for this user that the hash
is trusted: who trained with a file has run it already. Loading runs the copy if its hash is trusted, and otherwise only
with ``--allow-code``.

A hash that is trusted cannot be had by sending files: it lies in the user's own state directory. That the original file
still exists at its old path would prove nothing, because a run could then name any file of this machine, such as
``os.py:system`` of the standard library.
"""

import ast
import hashlib
import logging
import os
import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mqmha_jax.errors import UserError
from mqmha_jax.json_file import read_sealed_json, write_sealed_json

FOLDER, LIST_NAME = "code", "code.json"

_MARK = ".py:"

_MOST_FILES = 100
_LIBRARIES = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")}

_allowed = ContextVar("code_allowed", default=False)


def code_names(values: Any) -> list[str]:
    """All ``FILE.py:NAME`` in the nested dictionaries of a configuration, in order."""
    if isinstance(values, Mapping):
        own = [values["name"]] if isinstance(values.get("name"), str) and _MARK in values["name"] else []
        return own + [name for value in values.values() for name in code_names(value)]
    return [name for value in values for name in code_names(value)] if isinstance(values, (list, tuple)) else []


def hash_code(values: Any) -> dict[str, str]:
    """Hash of each file of code that a configuration names, its neighbours included; "missing" where there is none."""
    files = dict.fromkeys(_split(name)[0] for name in code_names(values))
    return {file: _hash(_contents(Path(file))) if Path(file).is_file() else "missing" for file in files}


def copy_code(values: Any, workdir: Path) -> None:
    """Copies the code that a configuration names into a run, or checks that it is still that of the run; trusts it.

    Args:
      values: nested dictionaries of the configuration.
      workdir: of the run, which this process may write.

    Raises:
      UserError: a file changed since the run started, or the copy cannot be written.
    """
    names = code_names(values)
    if not names:
        return
    hashes = hash_code(values)
    target = workdir / FOLDER
    if (target / LIST_NAME).exists():
        known = _read_list(target)["hashes"]
        for file, now in hashes.items():
            if file in known and known[file] != now:
                raise UserError(
                    f"{file}, or a file that it imports, changed since this run started. Restore it from "
                    f"{target / known[file]}, or train with the changed file in another --workdir."
                )
    files = {}
    for file, digest in hashes.items():
        for name, content in _contents(Path(file)).items():
            path = target / digest / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            files[f"{digest}/{name}"] = hashlib.sha256(content).hexdigest()
    write_sealed_json(target / LIST_NAME, {"hashes": hashes, "files": files})
    for name in names:
        file, attribute = _split(name)
        _trust(hashes[file], attribute)


def copy_code_of_run(workdir: Path, other: Path) -> None:
    """Copies the code of a run to another one, such as an average of its checkpoints."""
    if (workdir / FOLDER).is_dir():
        shutil.copytree(workdir / FOLDER, other / FOLDER)


@contextmanager
def code_allowed(allowed: bool = True) -> Iterator[None]:
    """While inside, code that this user did not train with may run, if ``allowed``."""
    before = _allowed.set(allowed or _allowed.get())
    try:
        yield
    finally:
        _allowed.reset(before)


def locate_code(values: Any, workdir: Path) -> Any:
    """The configuration of a run with the paths of the run's own copies of code, which may then be run.

    Args:
      values: nested dictionaries of the configuration, as the run saved them.
      workdir: of the run.

    Returns:
      The nested dictionaries with other paths, or the same ones where the configuration names no code.

    Raises:
      UserError: the code is not trusted and not allowed, or a copy differs from what was trained with.
    """
    names = code_names(values)
    if not names:
        return values
    target = workdir / FOLDER
    if not (target / LIST_NAME).exists():  # of a version that made no copies
        require_trust(values, where=str(workdir))
        return values
    listed = _read_list(target)
    _require_unchanged(target, listed["files"])
    places = {}
    for name in names:
        file, attribute = _split(name)
        if file not in listed["hashes"]:
            raise UserError(f"{target / LIST_NAME} knows nothing of {file}, which the run names. Copy the run again.")
        digest = listed["hashes"][file]
        place = target / digest / Path(file).name
        _require_trusted(digest, attribute, place, where=str(workdir))
        if Path(file).is_file() and _hash(_contents(Path(file))) != digest:
            logging.getLogger(__name__).warning("%s changed after the training; its copy %s is used.", file, place)
        places[name] = f"{place}:{attribute}"
    return _replace_names(values, places)


def require_trust(values: Any, *, where: str) -> None:
    """Refuses a configuration that is data, such as a JSON file, if it names code that this user did not train with.

    Args:
      values: its nested dictionaries.
      where: names it in the message.

    Raises:
      UserError: names the file.
    """
    for name in code_names(values):
        file, attribute = _split(name)
        digest = _hash(_contents(Path(file))) if Path(file).is_file() else "missing"
        _require_trusted(digest, attribute, Path(file).absolute(), where=where)


def _require_trusted(digest: str, attribute: str, file: Path, *, where: str) -> None:
    if not _allowed.get() and not _trusted(digest, attribute).exists():
        raise UserError(
            f"{where} runs code, {attribute} in {file}, that you have not trained with on this machine. Read the file: "
            "it can do anything that you can. To run it, add --allow-code (in Python: allow_code=True)."
        )


def _require_unchanged(target: Path, files: Mapping[str, str]) -> None:
    """Exactly the listed files: another one, or compiled code, could be imported in place of what was trained with."""
    found = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
    found.pop(LIST_NAME, None)
    for name in sorted(files.keys() | found.keys()):
        if name not in files:
            raise UserError(f"{target / name} does not belong to the code that the run was trained with. Delete it.")
        if name not in found or hashlib.sha256(found[name].read_bytes()).hexdigest() != files[name]:
            raise UserError(f"{target / name} is missing or differs from what the run was trained with. Restore it.")


def _read_list(target: Path) -> dict[str, Any]:
    return read_sealed_json(target / LIST_NAME, advice="Restore it from a copy of this run.")


def _replace_names(values: Any, places: Mapping[str, str]) -> Any:
    if isinstance(values, Mapping):
        replaced = {key: _replace_names(value, places) for key, value in values.items()}
        return replaced | ({"name": places[values["name"]]} if values.get("name") in places else {})
    return [_replace_names(value, places) for value in values] if isinstance(values, (list, tuple)) else values


def _split(name: str) -> tuple[str, str]:
    file, _, attribute = name.rpartition(":")
    return file, attribute


def _contents(file: Path) -> dict[str, bytes]:
    """The file and the neighbours that it imports, by their paths below its folder."""
    if file.resolve().parent in _LIBRARIES:  # whose files import each other, and are no neighbours to copy
        return {file.name: file.read_bytes()}
    contents: dict[str, bytes] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(file.parent).as_posix()
        if name not in contents:
            contents[name] = path.read_bytes()
            if len(contents) > _MOST_FILES:
                raise UserError(f"{file} imports more than {_MOST_FILES} files beside it; install them as a package.")
            waiting += _neighbours(file.parent, contents[name])
    return dict(sorted(contents.items()))


def _neighbours(folder: Path, source: bytes) -> Iterator[Path]:
    """Files in a folder that a program imports: modules, and whole packages."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):  # running it says so
        return
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    for root in {module.partition(".")[0] for module in modules}:
        if (folder / f"{root}.py").is_file():
            yield folder / f"{root}.py"
        yield from sorted((folder / root).rglob("*.py")) if (folder / root / "__init__.py").is_file() else ()


def _hash(contents: Mapping[str, bytes]) -> str:
    parts = [f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in contents.items()]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:32]


def _trusted(digest: str, attribute: str) -> Path:
    """Where it is noted that this user runs an attribute of a file with this hash: a file per pair, never rewritten."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "mqmha_jax" / "trusted_code" / hashlib.sha256(f"{digest}:{attribute}".encode()).hexdigest()


def _trust(digest: str, attribute: str) -> None:
    note = _trusted(digest, attribute)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
    except OSError as error:
        logging.getLogger(__name__).warning(
            "%s cannot be written (%s): using this run, which has code of yours, will need --allow-code.",
            note.parent,
            error.strerror,
        )
