"""A study file is Python and defines ``STUDY``: one study, or one for each scale by name."""

from collections.abc import Mapping
from pathlib import Path

from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.python_file import run_python_file
from mqmha_jax.ready_configs import find_file
from mqmha_jax.study.spec import Study


def load_study(path: Path, scale: str | None = None) -> Study:
    """The study in a file.

    Args:
      path: a Python file that defines ``STUDY = Study(...)`` or ``STUDY = {"small": Study(...), "full": ...}``, or the
        name of a study that comes with the project: ``pooling``.
      scale: which of several.

    Raises:
      UserError: the file is missing or defines no study, the scale is missing or unknown, or the study is not valid.
    """
    found = _run(find_file(path, "study"))
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
    found = getattr(run_python_file(path, "study"), "STUDY", None)
    if isinstance(found, Study):
        return found
    if isinstance(found, Mapping) and found and all(isinstance(one, Study) for one in found.values()):
        return found
    raise UserError(f"{path} must define STUDY = Study(...), or a dict of them by scale.")
