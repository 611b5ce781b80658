"""A work directory belongs to one experiment on one data set, and to one process at a time."""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from mqmha_jax.atomic import write_json, write_text
from mqmha_jax.config import Config
from mqmha_jax.config_io import differences, load_config, to_dict
from mqmha_jax.errors import UserError
from mqmha_jax.processes import is_first_process, raise_together

CONFIG_NAME, DATA_NAME, SPEAKERS_NAME, LOCK_NAME = "config.json", "data.json", "speakers.txt", ".lock"

# Options that change where things lie or what is reported, never a number of the run; data identity is checked apart.
_FREE = (
    "data.train",
    "data.dev",
    "data.dev_trials",
    "data.num_workers",
    "data.read_threads",
    "augment.noise",
    "augment.rooms",
    "train.log_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.keep_best",
    "train.max_skipped_in_row",
    "train.stall_seconds",
    "train.profile_first",
    "train.profile_last",
    "mesh.data",
    "mesh.model",
    "mesh.class_chunk",
    "start.run",
)


def claim(workdir: Path, config: Config, data: dict[str, Any], speakers: Sequence[str]) -> TextIO:
    """Make the directory this experiment's, or check that it already is.

    Args:
      workdir: created if it does not exist.
      config: the experiment.
      data: what identifies the training data: fingerprint, number of speakers, ...
      speakers: names of the classes, for runs that start from this one.

    Returns:
      A lock to keep open while training; another process that claims the directory meanwhile is refused.

    Raises:
      UserError: the directory holds another experiment (the differing options are named), was trained on other data,
        is in use by another process, or can not be written.
    """
    with contextlib.ExitStack() as on_error:
        lock = on_error.enter_context(_lock(workdir))
        if (workdir / CONFIG_NAME).exists():
            _check_same_run(workdir, config, data)
        write_text(workdir / SPEAKERS_NAME, "".join(f"{speaker}\n" for speaker in speakers))
        write_json(workdir / DATA_NAME, data)
        write_json(workdir / CONFIG_NAME, to_dict(config))
        on_error.pop_all()
    return lock


@contextlib.contextmanager
def claimed(workdir: Path, config: Config, data: dict[str, Any], speakers: Sequence[str]) -> Iterator[None]:
    """``claim`` for the time inside, done by the first process; what it refuses, all processes of the job refuse."""
    with contextlib.ExitStack() as lock:
        with raise_together():
            if is_first_process():
                lock.enter_context(claim(workdir, config, data, speakers))
        yield


def read_config(workdir: Path) -> Config:
    """The configuration of the run in a work directory.

    Raises:
      UserError: the directory holds no run.
    """
    if not (workdir / CONFIG_NAME).is_file():
        raise UserError(
            f"{workdir} is not a work directory: it has no {CONFIG_NAME}. Train with --workdir {workdir} first."
        )
    return load_config(workdir / CONFIG_NAME)


def _check_same_run(workdir: Path, config: Config, data: dict[str, Any]) -> None:
    saved = load_config(workdir / CONFIG_NAME)
    free = tuple(f"{name}:" for name in _FREE)
    changed = [line for line in differences(saved, config) if not line.startswith(free)]
    if changed:
        raise UserError(
            f"{workdir} holds a run with another configuration; these options differ (saved -> given): "
            f"{'; '.join(changed)}. Give the same options to resume, or another --workdir for a new run."
        )
    try:
        known = json.loads((workdir / DATA_NAME).read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{workdir / DATA_NAME}, which tells what the run was trained on, can not be read ({error}); bring it back "
            "or give another --workdir."
        ) from error
    other = [f"{name}: {known.get(name)} -> {value}" for name, value in data.items() if known.get(name) != value]
    if other:
        raise UserError(
            f"{workdir} was trained on other data than {config.data.train} (saved -> given): {'; '.join(other)}. "
            "Point data.train at the same shards to resume, or give another --workdir."
        )


def read_speakers(workdir: Path) -> list[str]:
    """The names of a run's classes."""
    path = workdir / SPEAKERS_NAME
    if not path.is_file():
        raise UserError(f"{workdir} does not tell its speakers: it has no {SPEAKERS_NAME}. Use start.head=fresh.")
    return path.read_text(encoding="utf-8").splitlines()


def _lock(workdir: Path) -> TextIO:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / LOCK_NAME).open("w")
    except OSError as error:
        raise UserError(
            f"The work directory {workdir} can not be written ({error.strerror}); free some space or give another "
            "--workdir."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(f"Another process is training in {workdir}; wait for it or give another --workdir.") from None
    return lock
