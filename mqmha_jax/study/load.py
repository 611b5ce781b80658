"""A study file is Python and defines ``STUDY``: one study, or one for each scale by name."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.study.spec import Study


def load_study(path: Path, scale: str | None = None) -> Study:
    """The study in a file.

    Args:
      path: a Python file that defines ``STUDY = Study(...)`` or ``STUDY = {"small": Study(...), "full": ...}``.
      scale: which of several.

    Raises:
      UserError: the file is missing or defines no study, the scale is missing or unknown, or the study is not valid.
    """
    found = _run(path)
    if isinstance(found, Study):
        if scale is not None:
            raise UserError(f"{path} has one scale only; leave out --scale {scale}.")
        return found
    if scale is None:
        raise UserError(f"{path} has several scales; choose one with --scale: {', '.join(found)}.")
    if scale not in found:
        raise unknown_name(f"scale of {path}", scale, found)
    return found[scale]


def _run(path: Path) -> Study | Mapping[str, Study]:
    if not path.is_file():
        raise UserError(f"No study file {path}. Give the path of a Python file such as configs/studies/pooling.py.")
    spec = importlib.util.spec_from_file_location(f"study_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python (.py) file; a study is one that defines STUDY = Study(...).")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # it is the user's program
        raise UserError(f"{path} can not be read as a study: {type(error).__name__}: {error}.") from error
    found = getattr(module, "STUDY", None)
    if isinstance(found, Study):
        return found
    if isinstance(found, Mapping) and found and all(isinstance(one, Study) for one in found.values()):
        return found
    raise UserError(f"{path} must define STUDY = Study(...), or a dict of them by scale.")
