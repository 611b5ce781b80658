"""Checkpoints of a run: save in the background, resume exactly, load parts."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import jax
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from mqmha_jax.atomic import sync, sync_tree
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.processes import is_first_process, raise_together, require_agreement
from mqmha_jax.runs.checkpoint_directory import ARRAYS, CheckpointDirectory, Step
from mqmha_jax.runs.checkpoint_lock import hold_checkpoint
from mqmha_jax.runs.load_trees import load_trees, read_shapes
from mqmha_jax.runs.manifest import write_manifest
from mqmha_jax.runs.saved_trees import HEAD, NETWORK, TRAINING, describe_array, place_on_one_device, split_state
from mqmha_jax.runs.state import TrainState
from mqmha_jax.runs.workdir import describe_run

# A checkpoint has such a name until it is complete and hashed, and again while it is removed; readers see digits only.
_SAVING, _REMOVING = ".saving-", ".removing-"
_LEFTOVERS = (f"{_SAVING}*", f"{_REMOVING}*", "*.orbax-checkpoint-tmp*")  # the last: of versions before manifests

# Bytes that a save needs for its directories before its first array; a disk with this much free is not full.
_TRIAL_BYTES = 2**20

# Number of attempts of a reader whose chosen step training has removed.
_READ_TRIES = 10

Read = TypeVar("Read")


class Checkpoints:
    """The checkpoints in a work directory, one directory per step; half-written ones are never seen."""

    def __init__(
        self,
        workdir: Path,
        *,
        keep: int | None = None,
        keep_best: int = 0,
        is_planned: Callable[[int], bool] = lambda step: True,
    ) -> None:
        """Opens the checkpoints of a run.

        Args:
          workdir: the run's directory.
          keep: number of latest checkpoints to keep on disk, for the one job that trains here; None only reads, or
            keeps all.
          keep_best: number of checkpoints with the lowest dev EER to keep as well.
          is_planned: whether an uninterrupted run saves the checkpoint of a step. One of another step, which an
            interruption saved, goes when there is a newer one, so that the same checkpoints stay as without it.

        Raises:
          UserError: the directory cannot be written, or the processes of a job do not see the same checkpoints.
        """
        self._on_disk = CheckpointDirectory(workdir)
        self._keep, self._keep_best, self._is_planned = keep, keep_best, is_planned
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None
        self._newest_saved: int | None = None
        if keep is not None:
            if is_first_process():
                self._prepare_directory()
                self._remove_leftovers()
            require_agreement(self.steps, f"list of checkpoints in {self._on_disk.path} (all must see one directory)")
            self._newest_saved = self.latest_step

    def _prepare_directory(self) -> None:
        try:
            self._on_disk.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{self._on_disk.path} cannot be made: {error.strerror}. Free some space, or allow writing there."
            ) from error

    def _remove_leftovers(self) -> None:
        for pattern in _LEFTOVERS:
            for leftover in self._on_disk.path.glob(pattern):
                shutil.rmtree(leftover)

    @property
    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        return max(self.steps, default=None)

    @property
    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, in rising order."""
        return self._on_disk.steps

    def save(self, state: TrainState, *, eer: float | None = None) -> None:
        """Starts saving the state; returns as soon as the arrays are copied, the files are written in the background.

        Args:
          state: on every host, which all must call this.
          eer: its dev EER, where it was evaluated.

        Raises:
          UserError: this or the previous save could not be written, e.g. because the disk is full.
        """
        step = int(state.step)
        if step == self._newest_saved:  # the disk may look different to each host
            return
        self.wait()
        self._start(step, split_state(state), eer)

    def save_network(self, step: int, network: PyTree, head: PyTree) -> None:
        """Saves a network and its head, if it has one: to be used, or to start from, but not to be resumed."""
        self._prepare_directory()
        trees = {NETWORK: network, **({HEAD: head} if head else {})}  # Orbax refuses an empty tree
        self._start(step, trees, None)
        self.wait()

    def _start(self, step: int, trees: dict[str, PyTree], eer: float | None) -> None:
        unfinished = self._on_disk.path / f"{_SAVING}{step}"
        with raise_together():  # or the others would wait in Orbax for a directory that cannot be made
            try:
                if is_first_process():
                    _make_and_try(unfinished)
            except OSError as error:
                raise self._make_save_error(error) from error
        try:
            response = ocp.save_checkpointables_async(unfinished / ARRAYS, trees)
        except Exception as error:
            raise self._make_save_error(error) from error
        self._newest_saved = step
        self._saving = self._thread.submit(self._finish, response, unfinished, step, eer)

    def _finish(self, response: Any, unfinished: Path, step: int, eer: float | None) -> None:
        """Waits for the arrays of all processes, then hashes them and gives the checkpoint its name."""
        response.result()
        if is_first_process():
            write_manifest(unfinished, step, eer=eer, run=describe_run(self._on_disk.workdir))
            sync_tree(unfinished)
            os.rename(unfinished, self._on_disk.place_of(step))
            sync(self._on_disk.path)

    def wait(self) -> None:
        """Blocks until the last save is complete on disk, and removes the checkpoints that it replaces.

        Every process of a job calls this, and none leaves before the first one has written the manifest.

        Raises:
          UserError: it could not be written.
        """
        with raise_together():
            try:
                if self._saving is not None:
                    self._saving.result()
                    self._saving = None
                if self._keep is not None and is_first_process():
                    self._remove_old(self._keep)
            except Exception as error:
                raise self._make_save_error(error) from error

    def _remove_old(self, keep: int) -> None:
        # A checkpoint that is half gone when the power fails must not count, so it loses its name first. Those that
        # are damaged stay: somebody may restore the missing file.
        steps = self.steps
        old = set(steps) - {
            *steps[-1:],
            *[step for step in steps if self._is_planned(step)][-keep:],
            *self._on_disk.sort_by_eer(steps)[: self._keep_best],
            *self._on_disk.damaged,
        }
        for step in sorted(old):
            nameless = self._on_disk.path / f"{_REMOVING}{step}"
            with hold_checkpoint(self._on_disk.place_of(step), alone=True) as alone:
                if not alone:  # somebody reads it; the next save removes it
                    continue
                os.rename(self._on_disk.place_of(step), nameless)
            shutil.rmtree(nameless)

    def restore(self, like: TrainState) -> TrainState:
        """The newest state, placed on the devices as ``like`` is.

        Args:
          like: a state of the same shapes, types and shardings (its values do not matter).

        Raises:
          UserError: the checkpoint belongs to another architecture; the first differing arrays are named.
        """
        wanted = {name: jax.tree.map(describe_array, tree) for name, tree in split_state(like).items()}
        loaded = load_trees(self._on_disk, self._on_disk.choose_step(None), wanted, shared=True)
        network, training = loaded[NETWORK], loaded[TRAINING]
        latest = training["latest"] or network
        return like.replace(
            params={"net": latest["params"], "head": loaded[HEAD]},
            batch_stats=latest["batch_stats"],
            average=network if like.average else {},
            **{name: training[name] for name in ("step", "opt_state", "loss_state", "counters")},
        )

    def read(self, step: Step, read: Callable[[int], Read]) -> Read:
        """Calls ``read`` with the step of one checkpoint, which stays on disk meanwhile.

        Several calls that each took the newest checkpoint could meet different ones while training saves.

        Args:
          step: of the checkpoint.
          read: reads it; called again with the next step if training removed the checkpoint a moment before.

        Raises:
          UserError: there is no (such) checkpoint, or ``read`` raises.
        """
        return self._hold(lambda: [self._on_disk.choose_step(step)], lambda steps: read(steps[0]))

    def read_last(self, number: int, read: Callable[[Sequence[int]], Read]) -> Read:
        """``read`` for the steps of several checkpoints, the newest ones, in rising order.

        Raises:
          UserError: there are fewer checkpoints, or ``read`` raises.
        """

        def choose() -> list[int]:
            steps = self.steps
            if not 1 <= number <= len(steps):
                raise UserError(
                    f"{self._on_disk.workdir} has {count_noun(len(steps), 'checkpoint')}, not {number}; "
                    "train.keep_checkpoints says how many a run keeps."
                )
            return steps[-number:]

        return self._hold(choose, read)

    def restore_network(self, like: Mapping[str, PyTree], step: Step = None) -> tuple[dict[str, PyTree], int]:
        """The network alone, on one device.

        Args:
          like: ``{"params": ..., "batch_stats": ...}`` of arrays or ``jax.ShapeDtypeStruct``.
          step: of the checkpoint.

        Returns:
          The same tree with the saved values, and the step they were saved at.

        Raises:
          UserError: there is no (such) checkpoint, or it belongs to another architecture.
        """
        wanted = {NETWORK: place_on_one_device(dict(like))}
        return self.read(step, lambda existing: (load_trees(self._on_disk, existing, wanted)[NETWORK], existing))

    def restore_head(self, step: Step = None) -> tuple[dict[str, PyTree], int]:
        """The head alone, with the rows that pad its classes, whole on one device, and the step it was saved at.

        An imported network has none; then the tree is empty.

        Raises:
          UserError: there is no (such) checkpoint.
        """

        def load(existing: int) -> tuple[dict[str, PyTree], int]:
            if not self._on_disk.holds(existing, HEAD):
                return {}, existing
            wanted = {HEAD: place_on_one_device(read_shapes(self._on_disk, existing, HEAD))}
            return load_trees(self._on_disk, existing, wanted)[HEAD], existing

        return self.read(step, load)

    def _hold(self, choose: Callable[[], list[int]], read: Callable[[Sequence[int]], Read]) -> Read:
        """Reads checkpoints that nobody removes meanwhile; if training was faster, chooses again."""
        for _ in range(_READ_TRIES):
            chosen = choose()
            places = [self._on_disk.place_of(step) for step in chosen]
            try:
                with contextlib.ExitStack() as held:
                    if all([held.enter_context(hold_checkpoint(place)) for place in places]):
                        return read(chosen)
            except UserError:
                if all(place.exists() for place in places):
                    raise
            time.sleep(0.01)
        raise UserError(f"{self._on_disk.path} changes faster than it can be read; copy the run, or wait for its end.")

    def close(self) -> None:
        """Waits for the last save.

        Raises:
          UserError: it could not be written.
        """
        self._thread.shutdown()
        if self._saving is not None and (error := self._saving.exception()):
            raise self._make_save_error(error) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        self._thread.shutdown()  # the error that is under way is the one to report

    def _make_save_error(self, error: BaseException) -> UserError:
        good = self.latest_step
        kept = f"the last good checkpoint is that of step {good}" if good is not None else "there is no checkpoint yet"
        return UserError(
            f"A checkpoint could not be written to {self._on_disk.path}: {error}. Training stops; {kept}. "
            "Free some space (or repair the directory) and run the same command to resume."
        )


def _make_and_try(directory: Path) -> None:
    # Orbax's threads would wait five minutes for a directory that they cannot make, and the process with them.
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()  # a run whose directory was deleted ends here
    trial = directory / "trial"
    trial.write_bytes(bytes(_TRIAL_BYTES))
    sync(trial)
    trial.unlink()
