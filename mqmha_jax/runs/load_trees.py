"""Loads trees of arrays from a checkpoint, after checking that its files have not changed."""

import contextlib
import logging
from collections.abc import Mapping

import jax
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from mqmha_jax.errors import UserError
from mqmha_jax.processes import raise_together
from mqmha_jax.runs.checkpoint_directory import CheckpointDirectory, arrays_of, has_manifest
from mqmha_jax.runs.manifest import Manifest, read_manifest, verify_files
from mqmha_jax.runs.saved_trees import shapes_by_path
from mqmha_jax.runs.workdir import list_changes

_read_metadata = getattr(ocp, "metadata", None) or ocp.pytree_metadata  # its name since Orbax 0.12, and before


def load_trees(
    checkpoints: CheckpointDirectory, step: int, wanted: dict[str, PyTree], *, shared: bool = False
) -> dict[str, PyTree]:
    """Loads some trees of a checkpoint, after their files passed the manifest.

    Args:
      checkpoints: directory of the run's checkpoints.
      step: of the checkpoint.
      wanted: name of a tree -> shapes, types and shardings to load it with.
      shared: whether all processes of a job load; each hashes a part of the files, and all raise one's error.

    Raises:
      UserError: the checkpoint is damaged, belongs to another run, or has other shapes.
    """
    with raise_together() if shared else contextlib.nullcontext():
        _verify(checkpoints, step, wanted, (jax.process_index(), jax.process_count()) if shared else (0, 1))
    for name in wanted:
        _check_shapes(checkpoints, step, wanted[name], read_shapes(checkpoints, step, name))
    try:
        return ocp.load_checkpointables(arrays_of(checkpoints.place_of(step)), wanted)
    except Exception as error:  # Orbax, TensorStore and os each have their own
        raise checkpoints.make_damage_error(step, str(error)) from error


def read_shapes(checkpoints: CheckpointDirectory, step: int, name: str) -> PyTree:
    """Shapes and types of one of the trees of a checkpoint.

    Raises:
      UserError: the checkpoint is damaged or holds no such tree.
    """
    if not checkpoints.holds(step, name):
        raise UserError(
            f"The checkpoint of step {step} in {checkpoints.path} holds no {name}: it is not a checkpoint of "
            "a training run. It can be evaluated, and a new run can start from it (start.run)."
        )
    try:
        return _read_metadata(arrays_of(checkpoints.place_of(step)), name).metadata
    except Exception as error:
        raise checkpoints.make_damage_error(step, str(error)) from error


def _verify(checkpoints: CheckpointDirectory, step: int, wanted: Mapping[str, PyTree], share: tuple[int, int]) -> None:
    """Compares what is going to be read with the manifest, and the checkpoint with the run that it lies in.

    ``share`` is this process's number and how many hash the files between them.
    """
    place = checkpoints.place_of(step)
    if not place.exists():
        raise checkpoints.make_damage_error(step, "training removed it a moment ago")
    if not has_manifest(place):
        logging.getLogger(__name__).warning(
            "%s was saved by a version of mqmha_jax that wrote no checksums, so damage in it goes unnoticed. The "
            "checkpoints that this version saves have them.",
            place,
        )
        return
    try:
        manifest = read_manifest(place)
        index, count = share
        verify_files(place, manifest, [name for name in manifest.files if _is_read(wanted, name)][index::count])
    except (UserError, OSError) as error:
        raise checkpoints.make_damage_error(step, str(error)) from error
    _require_same_run(checkpoints, manifest)


def _require_same_run(checkpoints: CheckpointDirectory, manifest: Manifest) -> None:
    if changed := list_changes(checkpoints.workdir, manifest.run):
        raise UserError(
            f"{checkpoints.workdir} is not the run that saved its checkpoint of step {manifest.step}; these differ "
            f"(when saved -> now): {'; '.join(changed)}. Restore the file that changed, or move the checkpoint back to "
            "its own run."
        )


def _check_shapes(checkpoints: CheckpointDirectory, step: int, wanted: PyTree, saved: PyTree) -> None:
    ours, theirs = shapes_by_path(wanted), shapes_by_path(saved)
    names = [name for name in dict.fromkeys([*ours, *theirs]) if ours.get(name) != theirs.get(name)]
    if names:
        shown = "; ".join(f"{n}: here {ours.get(n, 'absent')}, saved {theirs.get(n, 'absent')}" for n in names[:5])
        raise UserError(
            f"The checkpoint of step {step} in {checkpoints.path} belongs to another architecture: "
            f"{len(names)} arrays differ, first {shown}. Use the configuration it was trained with, or another "
            "work directory."
        )


def _is_read(wanted: Mapping[str, PyTree], name: str) -> bool:
    """Whether a file of a checkpoint is read where only the ``wanted`` trees are."""
    _, tree, *rest = name.split("/")
    return not rest or tree in wanted
