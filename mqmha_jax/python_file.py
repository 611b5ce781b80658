"""A Python file of the user's: a configuration, a study, a loss of their own."""

import importlib.util
from pathlib import Path
from types import ModuleType

from mqmha_jax.errors import UserError


def run_python_file(path: Path, what: str) -> ModuleType:
    """Runs a file and gives what it defined.

    Args:
      path: a ``.py`` file.
      what: what it should be, for messages: ``"configuration"``.

    Raises:
      UserError: the file is missing, is not Python, or fails; ``__cause__`` is then its own error.
    """
    if not path.is_file():
        raise UserError(f"No {what} file {path.absolute()}; give the path of a Python (.py) file from where you are.")
    spec = importlib.util.spec_from_file_location(f"{what.replace(' ', '_')}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python (.py) file, as a {what} has to be.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # it is the user's program
        raise UserError(f"{path} can not be read as a {what}: {type(error).__name__}: {error}.") from error
    return module
