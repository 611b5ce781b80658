"""A work directory belongs to one experiment on one data set, and to one training process at a time."""

import contextlib
import dataclasses
import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from mqmha_jax.atomic import write_json
from mqmha_jax.config import Config, StartConfig
from mqmha_jax.config_io import differences, from_dict, to_dict
from mqmha_jax.data.ids import hash_names
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import SEAL, read_json, read_sealed_json, require_fields, write_sealed_json
from mqmha_jax.own_code.copies import copy_code, copy_code_of_run, locate_code, remove_code
from mqmha_jax.own_code.trust import trust_code
from mqmha_jax.processes import is_first_process, raise_together
from mqmha_jax.runs.checkpoint_directory import CheckpointDirectory
from mqmha_jax.runs.data_paths import record_start
from mqmha_jax.runs.identify_start import identify_start
from mqmha_jax.runs.log_lines import read_log
from mqmha_jax.runs.run_files import CONFIG_NAME, DATA_NAME, LOCK_NAME, SPEAKERS_NAME, STARTED_NAME

# Versions before checksums wrote one name per line, which a line break within a name shifted.
_OLD_SPEAKERS_NAME = "speakers.txt"

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

# What DATA_NAME knows beside the training data. A call that gives no such thing leaves it as it is.
_DEV, _START = "dev", "start"

# What a run may change besides between two of its checkpoints.
_FREE_BETWEEN_CHECKPOINTS = ("train.steps",)


@contextlib.contextmanager
def claim_workdir(workdir: Path, config: Config, data: dict[str, Any], speakers: Sequence[str]) -> Iterator[None]:
    """``lock_workdir`` for the time inside, by the first process; if it is refused, all processes raise the error.

    Every process trusts the run's code, because each may have a home of its own. If an exception ends a run before its
    first measured or saved step, the directory is free for another configuration afterwards.
    """
    with contextlib.ExitStack() as lock:
        with raise_together():
            if is_first_process():
                lock.enter_context(lock_workdir(workdir, config, data, speakers))
            else:
                trust_code(to_dict(config))
        try:
            yield
        except Exception:
            if is_first_process() and not _has_results(workdir):
                (workdir / CONFIG_NAME).unlink(missing_ok=True)
                remove_code(workdir)  # so that the user may edit it and start again
            raise


def _has_results(workdir: Path) -> bool:
    if CheckpointDirectory(workdir).steps:
        return True
    return any(line["step"] > 0 for line in read_log(workdir))  # before step 1 only the untrained network is measured


def lock_workdir(workdir: Path, config: Config, data: dict[str, Any], speakers: Sequence[str]) -> TextIO:
    """Makes the directory this experiment's, or checks that it already is.

    Args:
      workdir: created if it does not exist.
      config: the experiment.
      data: what identifies the training data: fingerprint, number of speakers, ...; and the dev list, if there is one.
      speakers: names of the classes, for runs that start from this one.

    Returns:
      A lock to keep open while training; another process that locks the directory meanwhile is refused.

    Raises:
      UserError: the directory holds another experiment (the differing options are named), was trained on other data
        or from another checkpoint, measured other dev lists, is in use by another process, or cannot be written.
    """
    with contextlib.ExitStack() as on_error:
        lock = on_error.enter_context(_lock(workdir))
        known: dict[str, Any] = {}
        if (workdir / CONFIG_NAME).exists():
            recorded = _require_same_run(workdir, config, data)
            known = {name: recorded[name] for name in (_DEV, _START) if name in recorded}
        elif CheckpointDirectory(workdir).steps:
            raise UserError(
                f"{workdir} holds checkpoints, but no {CONFIG_NAME}, which says how their run was trained. Restore the "
                "file, or give a new --workdir."
            )
        elif config.start.run:
            with contextlib.suppress(UserError):  # what loads the network says more about what is wrong with it
                known = {_START: identify_start(config.start)}
        copy_code(to_dict(config), workdir)
        write_sealed_json(workdir / DATA_NAME, {**known, **data})
        write_sealed_json(workdir / SPEAKERS_NAME, {"speakers": list(speakers)})
        record_start(workdir, config)
        write_json(workdir / CONFIG_NAME, to_dict(config))
        (workdir / _OLD_SPEAKERS_NAME).unlink(missing_ok=True)
        on_error.pop_all()
    return lock


def read_config(workdir: Path) -> Config:
    """The configuration of the run in a work directory, as it was given.

    To build its network, take ``read_runnable_config``.

    Raises:
      UserError: the directory holds no run, or its configuration is damaged or not valid.
    """
    return _build_config(workdir, _read_config_values(workdir))


def read_runnable_config(workdir: Path) -> Config:
    """The configuration of a run whose parts can be built: its own code is the copy that the run holds.

    Raises:
      UserError: as ``read_config``, or ``own_code.copies.locate_code``.
    """
    return _build_config(workdir, locate_code(_read_config_values(workdir), workdir))


def _read_config_values(workdir: Path) -> dict[str, Any]:
    if not (workdir / CONFIG_NAME).is_file():
        raise UserError(
            f"{workdir} is not a work directory: it has no {CONFIG_NAME}. Train with --workdir {workdir} first."
        )
    return read_json(workdir / CONFIG_NAME, dict, advice="Restore it from a copy of this run.")


def _build_config(workdir: Path, values: dict[str, Any]) -> Config:
    """An earlier or a later version may have written options that this one refuses, so the sentence names the file."""
    try:
        return from_dict(values)
    except UserError as error:
        raise UserError(f"{workdir / CONFIG_NAME}: {error}") from None


def copy_description(workdir: Path, other: Path) -> None:
    """Copies what describes a run, without its checkpoints and its log, to another directory, which is made."""
    other.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG_NAME, DATA_NAME, SPEAKERS_NAME, _OLD_SPEAKERS_NAME, STARTED_NAME):
        if (workdir / name).is_file():
            shutil.copyfile(workdir / name, other / name)
    copy_code_of_run(workdir, other)


def has_speakers(workdir: Path) -> bool:
    """Whether a directory is a run that knows the names of its classes."""
    return any((workdir / name).is_file() for name in (SPEAKERS_NAME, _OLD_SPEAKERS_NAME))


def read_speakers(workdir: Path) -> list[str]:
    """The names of a run's classes, in their order.

    Raises:
      UserError: the run has no list of them, or it is damaged or does not belong to the run's data.
    """
    if not has_speakers(workdir):
        raise UserError(f"{workdir} does not name its speakers: it has no {SPEAKERS_NAME}.")
    path, advice = workdir / SPEAKERS_NAME, "Restore it from a copy of this run; resuming its training writes it again."
    if path.is_file():
        content = read_sealed_json(path, advice=advice)
        require_fields(content, {"speakers": list[str]}, where=str(path), advice=advice)
        speakers = content["speakers"]
    else:
        path = workdir / _OLD_SPEAKERS_NAME
        speakers = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    data = _read_data(workdir) if (workdir / DATA_NAME).exists() else {}
    if len(speakers) != data.get("num_speakers", len(speakers)):
        raise UserError(
            f"{path} holds {len(speakers)} names for the {data['num_speakers']} speakers of the run. {advice}"
        )
    if hash_names(speakers) != data.get("speakers", hash_names(speakers)):
        raise UserError(f"{path} holds other names than the run was trained with. {advice}")
    return speakers


def describe_run(workdir: Path) -> dict[str, Any]:
    """What a checkpoint notes about the run that saves it: its configuration and its data, where they are known."""
    parts = {"configuration": CONFIG_NAME, "data": DATA_NAME}
    advice = "Restore it from a copy of this run."
    return {
        part: read_json(workdir / name, dict, advice=advice)
        for part, name in parts.items()
        if (workdir / name).is_file()
    }


def list_changes(workdir: Path, saved: Mapping[str, Any]) -> list[str]:
    """What differs between a run and ``describe_run`` when a checkpoint was saved, one ``name: saved -> now`` each.

    Raises:
      UserError: a file of the run is damaged.
    """
    now = describe_run(workdir)
    changed = []
    if "configuration" in saved and "configuration" in now:
        ours, theirs = from_dict(saved["configuration"]), from_dict(now["configuration"])
        changed += _differences(ours, theirs, (*_FREE, *_FREE_BETWEEN_CHECKPOINTS))
    if "data" in saved and "data" in now:
        # An option added later may identify the data more closely.
        common = (saved["data"].keys() & now["data"].keys()) - {SEAL}
        changed += [
            f"{DATA_NAME}, {name}: {saved['data'][name]} -> {now['data'][name]}"
            for name in sorted(common)
            if saved["data"][name] != now["data"][name]
        ]
    return changed


def list_other_data(workdir: Path, data: Mapping[str, Any]) -> list[str]:
    """What tells training data from those of a run, one ``name: saved -> given`` each; empty for the same data.

    Args:
      workdir: of the run.
      data: as for ``lock_workdir``.

    Raises:
      UserError: the run does not say what it was trained on, or that file is damaged.
    """
    return _differing_data(_read_data(workdir), data)


def _differing_data(known: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {known.get(name)} -> {value}" for name, value in data.items() if known.get(name) != value]


def _require_same_run(workdir: Path, config: Config, data: dict[str, Any]) -> dict[str, Any]:
    """Returns what the run was trained on, as it was recorded."""
    saved = read_config(workdir)
    longer = config.train.steps > saved.train.steps  # a run with more steps than planned is the same run
    changed = _differences(saved, config, (*_FREE, "train.steps") if longer else _FREE)
    if changed:
        raise UserError(
            f"{workdir} holds a run with another configuration; these options differ (saved -> given): "
            f"{'; '.join(changed)}. Give the same options to resume, or another --workdir for a new run."
        )
    known = _read_data(workdir)
    if config.start.run != saved.start.run:
        _require_same_start(workdir, saved.start, config.start, known.get(_START))
    if _DEV in known and _DEV in data and known[_DEV] != data[_DEV]:
        raise UserError(
            f"{workdir} measured its EERs on another dev list, or on other dev shards, than data.dev_trials="
            f"{config.data.dev_trials} and data.dev={config.data.dev}, so nothing could tell its best checkpoint. Give "
            f"the same ones to resume, or another --workdir. 'mqmha evaluate {workdir}' measures checkpoints on any "
            "list."
        )
    if other := _differing_data(known, {name: value for name, value in data.items() if name != _DEV}):
        raise UserError(
            f"{workdir} was trained on other data than {config.data.train} (saved -> given): {'; '.join(other)}. "
            "Point data.train at the same shards to resume, or give another --workdir."
        )
    return known


def _require_same_start(workdir: Path, saved: StartConfig, given: StartConfig, known: Any) -> None:
    """The other run may have moved, but it must hold the checkpoint that this run started from."""
    if saved.run and given.run:
        if known is None:  # an earlier version did not record it
            return
        with contextlib.suppress(UserError):  # no such run, or not such a checkpoint
            if identify_start(dataclasses.replace(given, step=known["step"])) == known:
                return
    advice = f"Give start.run={saved.run}" if saved.run else "Leave out start.run"
    raise UserError(
        f"{workdir} holds a run that started from {_name_start(saved)}, not from {_name_start(given)}. {advice} to "
        "resume, or give another --workdir for a new run."
    )


def _name_start(start: StartConfig) -> str:
    return start.run or "random values"


def _differences(saved: Config, given: Config, free: Sequence[str]) -> list[str]:
    starts = tuple(f"{name}:" for name in free)
    return [line for line in differences(saved, given) if not line.startswith(starts)]


def _read_data(workdir: Path) -> dict[str, Any]:
    """What the run was trained on; versions that wrote no list of speakers as JSON wrote no checksum either."""
    path, advice = workdir / DATA_NAME, "Restore it from a copy of this run, or give another --workdir."
    if (workdir / SPEAKERS_NAME).exists():
        return read_sealed_json(path, advice=advice)
    return read_json(path, dict, advice=advice)


def _lock(workdir: Path) -> TextIO:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / LOCK_NAME).open("w")
    except OSError as error:
        raise UserError(
            f"The work directory {workdir} cannot be written ({error.strerror}); free some space or give another "
            "--workdir."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(f"Another process is training in {workdir}; wait for it or give another --workdir.") from None
    return lock
