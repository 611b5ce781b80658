"""Resolves the relative paths in a run's configuration: they start at the directory where training was started.

The directory is no part of what identifies a run, so a run may be resumed, and evaluated, from another one.
"""

import dataclasses
from pathlib import Path
from typing import Any

from mqmha_jax.atomic import write_json
from mqmha_jax.config import Config
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import read_json
from mqmha_jax.runs.run_files import STARTED_NAME

_OPTIONS = (("data", "train"), ("data", "dev"), ("data", "dev_trials"), ("augment", "noise"), ("augment", "rooms"))


def record_start(workdir: Path, config: Config) -> None:
    """Records the current directory in a run if a path of its configuration is relative to it.

    Raises:
      UserError: the note cannot be written.
    """
    paths = [path for section, option in _OPTIONS for path in _as_tuple(getattr(getattr(config, section), option))]
    if any(map(_is_relative, paths)):
        write_json(workdir / STARTED_NAME, str(Path.cwd()))
    else:
        (workdir / STARTED_NAME).unlink(missing_ok=True)


def locate_data(config: Config, workdir: Path) -> Config:
    """Finds the relative paths of a run's data from any directory.

    Args:
      config: of the run, or one to resume it with.
      workdir: of the run; it need not exist.

    Returns:
      The configuration. A relative path that does not exist here is absolute if it exists where the training was
      started; all else stays.
    """
    start = _read_start(workdir)
    if start is None:
        return config
    for name, option in _OPTIONS:
        section = getattr(config, name)
        found = getattr(section, option)
        located = tuple(_locate(path, start) for path in _as_tuple(found))
        if located != _as_tuple(found):
            value: Any = located[0] if isinstance(found, str) else located
            config = dataclasses.replace(config, **{name: dataclasses.replace(section, **{option: value})})
    return config


def explain_path(workdir: Path, option: str, path: str) -> str:
    """Says where a path that cannot be used comes from.

    Args:
      workdir: of the run.
      option: name of the option in the run's configuration.
      path: its value, after ``locate_data``.
    """
    sentence = f"The path is {option} of the run in {workdir}"
    if not _is_relative(path):
        return f"{sentence}."
    start = _read_start(workdir)
    where = "where the run was trained, which it does not record" if start is None else f"{start} (the training's)"
    return f"{sentence}, relative to the present directory or to the directory {where}."


def _locate(path: str, start: Path) -> str:
    if _is_relative(path) and not Path(path).exists() and (start / path).exists():
        return str(start / path)
    return path


def _is_relative(path: str) -> bool:
    return bool(path) and "://" not in path and not Path(path).is_absolute()


def _as_tuple(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _read_start(workdir: Path) -> Path | None:
    try:
        return Path(read_json(workdir / STARTED_NAME, str, advice=""))
    except UserError:  # of an earlier version, or all paths are absolute
        return None
