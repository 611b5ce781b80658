"""What a file of the user's own consists of: itself and the neighbours that it imports. Their hash names the code."""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from mqmha_jax.errors import UserError
from mqmha_jax.own_code.names import code_names, split_name

_IMPORTABLE = (".py", ".pyc", ".so", ".pyd")
_MOST_FILES = 100
_LIBRARIES = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")}


def hash_code(values: Any) -> dict[str, str]:
    """Hash of each file of code that a configuration names, its neighbours included; "missing" where there is none."""
    files = dict.fromkeys(split_name(name)[0] for name in code_names(values))
    return {file: hash_files(read_code(Path(file))) if Path(file).is_file() else "missing" for file in files}


def read_code(file: Path) -> dict[str, bytes]:
    """The file and the neighbours that it imports, by their paths below its folder."""
    if file.resolve().parent in _LIBRARIES:  # its files import each other, and a run cannot copy them
        return {file.name: read_file(file)}
    contents: dict[str, bytes] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(file.parent).as_posix()
        if name not in contents:
            contents[name] = read_file(path)
            if len(contents) > _MOST_FILES:
                raise UserError(f"{file} imports more than {_MOST_FILES} files beside it; install them as a package.")
            waiting += _neighbours(file.parent, contents[name])
    return dict(sorted(contents.items()))


def hash_files(contents: Mapping[str, bytes]) -> str:
    """One hash of several files, by their paths."""
    parts = [f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in contents.items()]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:32]


def read_file(path: Path) -> bytes:
    """Reads a file of code; raises UserError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}). Allow reading or restore it.") from error


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
