"""Runs a Python file of the user's: a configuration, a study, a loss of their own."""

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mqmha_jax.errors import UserError

# Names of the modules that the latest file imported from its own folder.
_siblings: set[str] = set()

# Paths of all files that were run, and of their neighbours.
_own_files: set[str] = set()


def run_python_file(path: Path, what: str) -> ModuleType:
    """Runs a file and returns the module that it defines.

    The file can import the Python files beside it, as a script can. They are imported anew each time, so that a file
    in another folder gets its own neighbours, and an edited neighbour takes effect.

    Args:
      path: a ``.py`` file.
      what: what the file should be, for messages: ``"configuration"``.

    Raises:
      UserError: the file is missing, is not Python, or fails; ``__cause__`` is then its own error.
    """
    if not path.is_file():
        raise UserError(f"No {what} file {path.absolute()}; give the path of a Python (.py) file.")
    # dataclasses and typing look a class's module up by its name, so every file needs a name of its own.
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"{what.replace(' ', '_')}_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python (.py) file, as a {what} must be.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _own_files.update(filter(None, (str(path), spec.origin)))  # frames name it by its absolute path
    try:
        with _imports_from(path.resolve().parent):
            spec.loader.exec_module(module)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except SystemExit as error:
        raise UserError(
            f"{path} ends the program when it is read as a {what} (SystemExit: {error}). Put what it does as a program "
            "below: if __name__ == '__main__'."
        ) from error
    except Exception as error:  # it is the user's program
        place = locate_error(error)
        where = f" It arose in {place}." if place else ""
        raise UserError(f"{path} cannot be read as a {what}: {type(error).__name__}: {error}.{where}") from error
    return module


def locate_error(error: BaseException) -> str | None:
    """Where in a file that ``run_python_file`` ran an exception arose: "FILE, line 3, in target"; None: elsewhere."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in _own_files]
    return f"{frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name}" if frames else None


@contextmanager
def _imports_from(folder: Path) -> Iterator[None]:
    """Makes the files in ``folder`` importable, and forgets the neighbours of the file before."""
    for name in _siblings & sys.modules.keys():
        del sys.modules[name]
    _siblings.clear()
    if folder in {Path(entry).resolve() for entry in sys.path}:
        yield  # its files are importable as it is, and belong to the whole program
        return
    before, wrote_bytecode = set(sys.modules), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # files of a run stay those that it was trained with
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # the folder may have changed a moment ago
    try:
        yield
    finally:
        sys.dont_write_bytecode = wrote_bytecode
        sys.path.remove(str(folder))
        roots = {name.partition(".")[0] for name in sys.modules.keys() - before} - before
        own = {root for root in roots if _lies_in(folder, sys.modules.get(root))}
        _siblings.update(name for name in sys.modules if name.partition(".")[0] in own)
        files = (getattr(sys.modules[name], "__file__", None) for name in _siblings)
        _own_files.update(file for file in files if file)


def _lies_in(folder: Path, module: ModuleType | None) -> bool:
    spec = module.__spec__ if module else None
    if spec is None:
        return False
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location and spec.origin else ())]
    return bool(places) and Path(places[0]).resolve().parent == folder
