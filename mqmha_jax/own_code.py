"""Losses, poolings and encoders of the user's own, ``FILE.py:NAME`` in a configuration: what runs, and what may run.

A run is data that people send each other, so loading one must not run what it brings along. Training copies such files
and the neighbours that they import into ``code/`` of the run, with their hashes, and notes for this user that the hash
is trusted: who trained with a file has run it already. Loading runs the copy if its hash is trusted, and otherwise only
with ``--allow-code``.

A sender cannot make a hash trusted: the note lies in the user's own state directory. That the original file still
exists at its old path proves nothing, because a run could then name any file of this machine, such as ``os.py:system``
of the standard library. The hash covers every file of the copy. It cannot cover a folder that is not a copy, where a
file may lie that the code imports indirectly, so a configuration in JSON may run a file only where its user trained
with it, and a run without copies needs ``--allow-code``.
"""

import ast
import hashlib
import logging
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from mqmha_jax.atomic import write_bytes
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import read_sealed_json, require_fields, write_sealed_json

FOLDER, LIST_NAME = "code", "code.json"

_MARK = ".py:"

_IMPORTABLE = (".py", ".pyc", ".so", ".pyd")
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
            if not path.is_file() or _read(path) != content:
                write_bytes(path, content)
            files[f"{digest}/{name}"] = hashlib.sha256(content).hexdigest()
    write_sealed_json(target / LIST_NAME, {"hashes": hashes, "files": files})
    trust_code(values)


def trust_code(values: Any) -> None:
    """Notes that this user runs the code that a configuration names, which the user's own training runs already.

    Raises:
      UserError: a file cannot be read.
    """
    hashes = hash_code(values)
    for name in code_names(values):
        file, attribute = _split(name)
        _note(_trusted(hashes[file], attribute))
        _note(_trusted(hashes[file], attribute, Path(file)))


def remove_code(workdir: Path) -> None:
    """Removes the copies of a run that did not start."""
    shutil.rmtree(workdir / FOLDER, ignore_errors=True)


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
        file, attribute = _split(names[0])
        _require(_allowed.get(), attribute, Path(file).absolute(), where=str(workdir))
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
        _require(_allowed.get() or _trusted(digest, attribute).exists(), attribute, place, where=str(workdir))
        _require_digest(target, digest)
        if Path(file).is_file() and _hash(_contents(Path(file))) != digest:
            logging.getLogger(__name__).warning("%s changed after the training; its copy %s is used.", file, place)
        places[name] = f"{place}:{attribute}"
    return _replace_names(values, places)


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
        file, attribute = _split(name)
        digest = hash_code({"name": name})[file]
        allowed = _allowed.get() or _trusted(digest, attribute, Path(file)).exists()
        _require(allowed, attribute, Path(file).absolute(), where=where)


def _require(allowed: bool, attribute: str, file: Path, *, where: str) -> None:
    if not allowed:
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
        if name not in found or hashlib.sha256(_read(found[name])).hexdigest() != files[name]:
            raise UserError(f"{target / name} is missing or differs from what the run was trained with. Restore it.")


def _require_digest(target: Path, digest: str) -> None:
    """The copy is what its hash says: whoever sends a run writes its list, but cannot choose a trusted hash."""
    folder = target / digest
    found = sorted(folder.rglob("*"))
    if links := [path for path in (folder, *found) if path.is_symlink()]:
        raise UserError(f"{links[0]} is a link, which no copy of a run's code has. Restore it from a copy of this run.")
    contents = {path.relative_to(folder).as_posix(): _read(path) for path in found if not path.is_dir()}
    if _hash(dict(sorted(contents.items()))) != digest:
        raise UserError(f"{folder} differs from what the run was trained with. Restore it from a copy of this run.")


def _read_list(target: Path) -> dict[str, Any]:
    path, advice = target / LIST_NAME, "Restore it from a copy of this run."
    content = read_sealed_json(path, advice=advice)
    require_fields(content, {"hashes": dict[str, str], "files": dict[str, str]}, where=str(path), advice=advice)
    return content


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
        return {file.name: _read(file)}
    contents: dict[str, bytes] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(file.parent).as_posix()
        if name not in contents:
            contents[name] = _read(path)
            if len(contents) > _MOST_FILES:
                raise UserError(f"{file} imports more than {_MOST_FILES} files beside it; install them as a package.")
            waiting += _neighbours(file.parent, contents[name])
    return dict(sorted(contents.items()))


def _neighbours(folder: Path, source: bytes) -> Iterator[Path]:
    """Files in a folder that a program imports: modules, compiled ones too, and whole packages."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # compiled, or running it says so
        return
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    for root in {module.partition(".")[0] for module in modules}:
        yield from _importable(p for p in folder.glob(f"{root}.*") if p.stem == root or p.suffix in (".so", ".pyd"))
        # An installed package comes before a folder without __init__, such as the results that a program leaves there.
        if any(_importable((folder / root).glob("__init__.*"))) or not _is_installed(root, folder):
            yield from _importable((folder / root).rglob("*"))


def _importable(paths: Iterable[Path]) -> list[Path]:
    return sorted(p for p in paths if p.suffix in _IMPORTABLE and p.parent.name != "__pycache__" and p.is_file())


def _is_installed(root: str, folder: Path) -> bool:
    if root in sys.stdlib_module_names:
        return True
    spec = PathFinder.find_spec(root, [entry for entry in sys.path if Path(entry).resolve() != folder.resolve()])
    return spec is not None and spec.origin is not None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}). Allow reading or restore it.") from error


def _hash(contents: Mapping[str, bytes]) -> str:
    parts = [f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in contents.items()]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:32]


def _trusted(digest: str, attribute: str, file: Path | None = None) -> Path:
    """Where it is noted that this user runs an attribute of code with this hash: one empty file, never rewritten.

    With ``file``, that the user runs this very file and not only a copy of it.
    """
    key = f"{digest}:{attribute}" + (f":{file.resolve()}" if file else "")
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "mqmha_jax" / "trusted_code" / hashlib.sha256(key.encode()).hexdigest()


def _note(note: Path) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
    except OSError as error:
        logging.getLogger(__name__).warning(
            "%s cannot be written (%s): using this run, which has code of yours, will need --allow-code.",
            note.parent,
            error.strerror,
        )
