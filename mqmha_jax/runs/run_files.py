"""Files that no command may replace with its output: those of runs, shards, stores and results, and what it reads."""

import re
from collections.abc import Iterable
from pathlib import Path

from mqmha_jax.atomic import check_writable
from mqmha_jax.errors import UserError
from mqmha_jax.own_code.copies import FOLDER as CODE_FOLDER
from mqmha_jax.results_directory import is_sealed

CONFIG_NAME, DATA_NAME, SPEAKERS_NAME, LOCK_NAME = "config.json", "data.json", "speakers.json", ".lock"
LOG_NAME, STARTED_NAME, CHECKPOINTS_NAME = "metrics.jsonl", "started_in.json", "checkpoints"

# What an evaluation keeps for the network of a step. Earlier versions had one threshold and one mean for all steps.
FILE_OF_STEP = re.compile(r"(?:threshold|calibration)(?:-(\d+))?\.json|mean_embedding(?:-(\d+))?\.npz")

STORE_NAME = "store.json"
_FILE_OF_STORE = re.compile(r"store\.json|\.lock|recordings-.*\.npz|vectors-.*\.npy")

_FILES = (CONFIG_NAME, DATA_NAME, SPEAKERS_NAME, LOCK_NAME, LOG_NAME, STARTED_NAME)


def check_output_file(path: Path, *, inputs: Iterable[Path] = ()) -> None:
    """Refuses an output file that cannot be written or must stay as it is, before the work whose result it holds.

    Args:
      path: of the file; its directory is made if it is missing.
      inputs: files that the work reads.

    Raises:
      UserError: it is an input, a file that a run keeps in its work directory, a file of shards or of a store, or holds
        the numbers of an evaluation or a stress test; or ``check_writable`` refuses it.
    """
    from mqmha_jax.data.shard_format import is_file_of_shards  # here: brings NumPy and pydantic

    real = path.resolve()
    if is_file_of_shards(real):
        raise UserError(
            f"{path} is a file of the shards in {real.parent}, which this would destroy. Give another output."
        )
    for directory in real.parents:
        if _is_run(directory) and _is_kept(real.relative_to(directory)):
            raise UserError(f"{path} is a file of the run {directory}, which this would destroy. Give another output.")
    if _FILE_OF_STORE.fullmatch(real.name) and is_sealed(real.parent / STORE_NAME):
        raise UserError(f"{path} is a file of the store {real.parent}, which this would destroy. Give another output.")
    if real.suffix == ".json" and is_sealed(real):  # metrics.json, stress.json: only their own commands replace them
        raise UserError(
            f"{path} holds numbers that an earlier command keeps there, which this would destroy. Give another output."
        )
    if real in {given.resolve() for given in inputs}:
        raise UserError(f"{path} is an input, which this would destroy. Give another output.")
    check_writable(path)


def _is_run(directory: Path) -> bool:
    """Other programs also write a ``config.json``; beside ours lie ``data.json`` or numbered checkpoints."""
    if not (directory / CONFIG_NAME).is_file():
        return False
    return (directory / DATA_NAME).is_file() or any((directory / CHECKPOINTS_NAME).glob("[0-9]*"))


def _is_kept(inside: Path) -> bool:
    """Whether a path within a work directory is a file of the run."""
    top, *below = inside.parts
    if below:
        return top in (CHECKPOINTS_NAME, CODE_FOLDER)
    return top in _FILES or FILE_OF_STEP.fullmatch(top) is not None
