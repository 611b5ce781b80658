"""Checkpoints of a run: save in the background, resume exactly, load parts. The only file that imports Orbax."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from mqmha_jax.atomic import sync, sync_tree
from mqmha_jax.config import Config
from mqmha_jax.errors import UserError
from mqmha_jax.models.speaker_net import SpeakerNet, build_speaker_net
from mqmha_jax.parallel import vector_lanes
from mqmha_jax.processes import is_first_process, require_agreement
from mqmha_jax.runs.state import TrainState, initial_network
from mqmha_jax.runs.workdir import read_config

DIRECTORY = "checkpoints"
_EER = "eer"

# A checkpoint holds three trees, so that extraction reads the network alone and fine-tuning network and head.
_NETWORK, _HEAD, _TRAINING = "network", "head", "training"

# Orbax writes under such a name until all is there, and never reads it.
_UNFINISHED = ".orbax-checkpoint-tmp"

# What a save needs for its directories before its first array; a disk that has so much is not quite full.
_TRIAL_BYTES = 2**20


class Checkpoints:
    """The checkpoints in a work directory, one directory per step; half-written ones are never seen."""

    def __init__(self, workdir: Path, *, keep: int | None = None, keep_best: int = 0) -> None:
        """Open the checkpoints of a run.

        Args:
          workdir: the run's directory.
          keep: how many of the latest stay on disk, for the one job that trains here; None only reads, or keeps all.
          keep_best: how many with the lowest dev EER stay as well.

        Raises:
          UserError: the directory can not be made, or the processes of a job do not see the same checkpoints.
        """
        self._directory = (workdir / DIRECTORY).resolve()
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{self._directory} can not be made: {error.strerror}. Free some space (or mend the directory)."
            ) from error
        self._keep, self._keep_best = keep, keep_best
        self._checkpointer = ocp.training.Checkpointer(
            self._directory,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.PreserveAll(),  # see _remove_old
        )
        if keep is not None:
            if is_first_process():
                for leftover in self._directory.glob(f"*{_UNFINISHED}*"):
                    shutil.rmtree(leftover)
            require_agreement(self.steps, f"list of checkpoints in {self._directory} (all must see one directory)")

    @property
    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        return max(self.steps, default=None)

    @property
    def best_step(self) -> int | None:
        """The step of the checkpoint with the lowest dev EER, or None if none was evaluated."""
        return next(iter(self._best_first()), None)

    @property
    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, rising."""
        return sorted(checkpoint.step for checkpoint in self._complete())

    def _complete(self) -> list[Any]:
        # Orbax lists what is still being written, too; it gets its name when it is complete.
        return [checkpoint for checkpoint in self._checkpointer.checkpoints if checkpoint.path.is_dir()]

    def _best_first(self) -> list[int]:
        return [step for _, step in sorted((c.metrics[_EER], c.step) for c in self._complete() if c.metrics)]

    def save(self, state: TrainState, *, eer: float | None = None) -> None:
        """Start saving the state; returns as soon as the arrays are copied, the files are written in the background.

        Args:
          state: on every host, which all must call this.
          eer: its dev EER, where it was evaluated.

        Raises:
          UserError: this or the previous save could not be written, e.g. because the disk is full.
        """
        step = int(state.step)
        latest = self._checkpointer.latest  # complete or not; what lies on the disk need not look alike to all hosts
        if latest is not None and step == latest.step:
            return
        self.wait()
        metrics = None if eer is None else {_EER: eer}
        try:
            self._try_disk(step)
            self._checkpointer.save_checkpointables_async(step, _split(state), force=True, metrics=metrics)
        except Exception as error:
            raise self._not_saved(error) from error

    def save_network(self, step: int, network: PyTree, head: PyTree) -> None:
        """Save a network and its head, if it has one: to be used, or to start from, but not to be resumed."""
        trees = {_NETWORK: network, **({_HEAD: head} if head else {})}  # Orbax refuses an empty tree
        try:
            self._try_disk(step)
            self._checkpointer.save_checkpointables(step, trees, force=True)
        except Exception as error:
            raise self._not_saved(error) from error

    def wait(self) -> None:
        """Block until the last save is complete on disk, and remove the checkpoints that it replaces.

        Raises:
          UserError: it could not be written.
        """
        try:
            self._checkpointer.wait()
            if self._keep is not None and is_first_process():
                self._remove_old(self._keep)
        except Exception as error:
            raise self._not_saved(error) from error

    def _try_disk(self, step: int) -> None:
        # Orbax's threads would wait five minutes for a directory that it can not make, and the process with them.
        if is_first_process():
            with tempfile.TemporaryDirectory(prefix=f"{step}{_UNFINISHED}-", dir=self._directory) as trial:
                file = Path(trial, "trial")
                file.write_bytes(bytes(_TRIAL_BYTES))
                sync(file)

    def _remove_old(self, keep: int) -> None:
        # Orbax would empty a checkpoint under its own name, and one that is half gone when the power fails would still
        # count. So it loses its name first; and nothing goes before the newest is safe on the disk.
        steps = self.steps
        old = sorted({*steps} - {*steps[-keep:], *self._best_first()[: self._keep_best]})
        if old:
            sync_tree(self._directory / str(steps[-1]))
            sync(self._directory)
        for step in old:
            nameless = self._directory / f"{step}{_UNFINISHED}"
            os.rename(self._directory / str(step), nameless)
            shutil.rmtree(nameless)

    def restore(self, like: TrainState) -> TrainState:
        """The newest state, laid over the devices as ``like`` is.

        Args:
          like: a state of the same shapes, types and shardings (its values do not matter).

        Raises:
          UserError: the checkpoint belongs to another architecture; the first differing arrays are named.
        """
        step = self.latest_step
        if step is None:
            raise UserError(f"No complete checkpoint in {self._directory}.")
        loaded = self._load(step, {name: jax.tree.map(_abstract, tree) for name, tree in _split(like).items()})
        network, training = loaded[_NETWORK], loaded[_TRAINING]
        latest = training["latest"] or network
        return like.replace(
            params={"net": latest["params"], "head": loaded[_HEAD]},
            batch_stats=latest["batch_stats"],
            average=network if like.average else {},
            **{name: training[name] for name in ("step", "opt_state", "loss_state", "counters")},
        )

    def restore_network(self, like: Mapping[str, PyTree], step: int | None = None) -> tuple[dict[str, PyTree], int]:
        """The network alone, on one device.

        Args:
          like: ``{"params": ..., "batch_stats": ...}`` of arrays or ``jax.ShapeDtypeStruct``.
          step: of the checkpoint; None: the newest.

        Returns:
          The same tree with the saved values, and the step they were saved at.

        Raises:
          UserError: there is no (such) checkpoint, or it belongs to another architecture.
        """
        step = self._existing(step)
        return self._load(step, {_NETWORK: _on_one_device(dict(like))})[_NETWORK], step

    def restore_head(self, step: int | None = None) -> tuple[dict[str, PyTree], int]:
        """The head alone, with the rows that pad its classes, whole on one device, and the step it was saved at.

        An imported network has none; then the tree is empty.

        Raises:
          UserError: there is no (such) checkpoint.
        """
        step = self._existing(step)
        saved = self._metadata(step).get(_HEAD)
        if not saved:
            return {}, step
        return self._load(step, {_HEAD: _on_one_device(saved)})[_HEAD], step

    def _existing(self, step: int | None) -> int:
        steps = self.steps
        if not steps:
            raise UserError(f"No complete checkpoint in {self._directory}; train first, or wait for the first save.")
        if step is not None and step not in steps:
            raise UserError(f"No checkpoint of step {step} in {self._directory}; there are {steps}.")
        return steps[-1] if step is None else step

    def _load(self, step: int, wanted: dict[str, PyTree]) -> dict[str, PyTree]:
        saved = self._metadata(step)
        if absent := [name for name in wanted if name not in saved]:
            raise UserError(
                f"The checkpoint of step {step} in {self._directory} holds no {absent[0]}: it is no checkpoint of a "
                "training run. It can be evaluated, and a new run can start from it (start.run)."
            )
        for name in wanted:
            self._check_shapes(step, wanted[name], saved[name])
        try:
            return self._checkpointer.load_checkpointables(step, wanted)
        except Exception as error:  # Orbax, TensorStore and os each have their own
            raise self._damaged(step, str(error)) from error

    def _metadata(self, step: int) -> dict[str, PyTree]:
        """Shapes and types of what a checkpoint holds."""
        try:
            saved = self._checkpointer.checkpointables_metadata(step).metadata
        except Exception as error:
            raise self._damaged(step, str(error)) from error
        if not saved or None in saved.values():  # Orbax only warns
            raise self._damaged(step, f"{', '.join(name for name in saved if saved[name] is None) or 'all'} missing")
        return saved

    def _damaged(self, step: int, reason: str) -> UserError:
        return UserError(
            f"The checkpoint of step {step} in {self._directory} can not be read ({reason[:200]}): a file of it is "
            f"damaged or missing. Bring it back, or remove {self._directory / str(step)} to go on from another one; "
            f"there are those of steps {', '.join(map(str, self.steps))}."
        )

    def close(self) -> None:
        """Wait for the last save and release the directory."""
        self._checkpointer.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:  # the error that is under way is the one to report
            self.close()
        except Exception:
            return

    def _check_shapes(self, step: int, wanted: PyTree, saved: PyTree) -> None:
        ours, theirs = _shapes(wanted), _shapes(saved)
        names = [name for name in dict.fromkeys([*ours, *theirs]) if ours.get(name) != theirs.get(name)]
        if names:
            shown = "; ".join(f"{n}: here {ours.get(n, 'absent')}, saved {theirs.get(n, 'absent')}" for n in names[:5])
            raise UserError(
                f"The checkpoint of step {step} in {self._directory} belongs to another architecture: "
                f"{len(names)} arrays differ, first {shown}. Use the configuration it was trained with, or another "
                "work directory."
            )

    def _not_saved(self, error: Exception) -> UserError:
        good = self.latest_step
        kept = f"the last good checkpoint is that of step {good}" if good is not None else "there is no checkpoint yet"
        return UserError(
            f"A checkpoint could not be written to {self._directory}: {error}. Training stops; {kept}. "
            "Free some space (or mend the directory) and run the same command to go on."
        )


class LoadedNetwork(NamedTuple):
    """A trained network and what is needed to use it.

    Attributes:
      config: the run's configuration.
      net: the network that it describes.
      variables: ``params`` and ``batch_stats``.
      step: steps it was trained.
    """

    config: Config
    net: SpeakerNet
    variables: dict[str, PyTree]
    step: int


def load_network(workdir: Path, step: int | None = None) -> LoadedNetwork:
    """The network of a checkpoint in a work directory, without head and optimizer.

    Args:
      workdir: of the run.
      step: of the checkpoint; None: the newest.

    Raises:
      UserError: the directory holds no run or no complete checkpoint, or configuration and checkpoint differ.
    """
    config = read_config(workdir)
    net = build_speaker_net(config.model, lanes=vector_lanes())
    like = jax.eval_shape(partial(initial_network, config, net))
    with Checkpoints(workdir) as checkpoints:
        variables, step = checkpoints.restore_network(like, step)
    return LoadedNetwork(config, net, variables, step)


def _split(state: TrainState) -> dict[str, PyTree]:
    latest = {"params": state.params["net"], "batch_stats": state.batch_stats}
    return {
        _NETWORK: state.network(),
        _HEAD: state.params["head"],
        _TRAINING: {
            "step": state.step,
            "latest": latest if state.average else {},  # where the network to use is an average of it
            "opt_state": state.opt_state,
            "loss_state": state.loss_state,
            "counters": state.counters,
        },
    }


def _abstract(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


def _on_one_device(tree: PyTree) -> PyTree:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """Path -> shape; named tuples, lists and dictionaries read the same, as metadata keeps no types."""
    flat: dict[str, tuple[int, ...]] = {}

    def visit(node: Any, path: str) -> None:
        if hasattr(node, "shape"):
            flat[path] = tuple(node.shape)
            return
        if hasattr(node, "_asdict"):
            node = node._asdict()
        items = node.items() if isinstance(node, Mapping) else enumerate(node or ())
        for key, child in items:
            visit(child, f"{path}/{key}" if path else str(key))

    visit(tree, "")
    return flat
