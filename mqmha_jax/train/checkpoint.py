"""Checkpoints of a run: save in the background, resume exactly, load a network. The only file that imports Orbax."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from mqmha_jax.config import Config
from mqmha_jax.errors import UserError
from mqmha_jax.models.speaker_net import SpeakerNet, build_speaker_net
from mqmha_jax.train.state import TrainState, initial_network
from mqmha_jax.train.workdir import read_config

DIRECTORY = "checkpoints"

# A checkpoint holds two trees, so that extraction reads the network without the head and the optimizer.
_NETWORK, _TRAINING = "network", "training"


class Checkpoints:
    """The checkpoints in a work directory, one directory per step; half-written ones are never seen."""

    def __init__(self, workdir: Path, *, keep: int | None = None) -> None:
        """Open the checkpoints of a run.

        Args:
          workdir: the run's directory.
          keep: how many of the latest stay on disk; None keeps all.
        """
        self._directory = (workdir / DIRECTORY).resolve()
        policies = ocp.training.preservation_policies
        self._checkpointer = ocp.training.Checkpointer(
            self._directory,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.LatestN(keep) if keep else policies.PreserveAll(),
            cleanup_tmp_directories=keep is not None,
        )

    @property
    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def save(self, state: TrainState) -> None:
        """Start saving the state; returns as soon as the arrays are copied, the files are written in the background.

        Raises:
          UserError: this or the previous save could not be written, e.g. because the disk is full.
        """
        step = int(state.step)
        if step == self.latest_step:
            return
        try:
            self._checkpointer.save_checkpointables_async(step, _split(state), force=True)
        except Exception as error:
            raise self._not_saved(error) from error

    def wait(self) -> None:
        """Block until the last save is complete on disk.

        Raises:
          UserError: it could not be written.
        """
        try:
            self._checkpointer.wait()
        except Exception as error:
            raise self._not_saved(error) from error

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
        wanted = {name: jax.tree.map(_abstract, tree) for name, tree in _split(like).items()}
        saved = self._checkpointer.checkpointables_metadata(step).metadata
        for name in wanted:
            self._check_shapes(step, wanted[name], saved[name])
        loaded = self._checkpointer.load_checkpointables(step, wanted)
        network, training = loaded[_NETWORK], loaded[_TRAINING]
        return like.replace(
            params={"net": network["params"], "head": training["head"]},
            batch_stats=network["batch_stats"],
            **{name: training[name] for name in ("step", "opt_state", "loss_state", "counters")},
        )

    def restore_network(self, like: Mapping[str, PyTree], step: int | None = None) -> tuple[dict[str, PyTree], int]:
        """The network alone.

        Args:
          like: ``{"params": ..., "batch_stats": ...}`` of arrays or ``jax.ShapeDtypeStruct``.
          step: of the checkpoint; None: the newest.

        Returns:
          The same tree with the saved values, and the step they were saved at.

        Raises:
          UserError: there is no (such) checkpoint, or it belongs to another architecture.
        """
        steps = [checkpoint.step for checkpoint in self._checkpointer.checkpoints]
        if not steps:
            raise UserError(f"No complete checkpoint in {self._directory}; train first, or wait for the first save.")
        step = max(steps) if step is None else step
        if step not in steps:
            raise UserError(f"No checkpoint of step {step} in {self._directory}; there are {sorted(steps)}.")
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), dict(like))
        self._check_shapes(step, wanted, self._checkpointer.checkpointables_metadata(step).metadata[_NETWORK])
        return self._checkpointer.load_checkpointables(step, {_NETWORK: wanted})[_NETWORK], step

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
    net = build_speaker_net(config.model)
    like = jax.eval_shape(partial(initial_network, config, net))
    with Checkpoints(workdir) as checkpoints:
        variables, step = checkpoints.restore_network(like, step)
    return LoadedNetwork(config, net, variables, step)


def _split(state: TrainState) -> dict[str, PyTree]:
    return {
        _NETWORK: {"params": state.params["net"], "batch_stats": state.batch_stats},
        _TRAINING: {
            "step": state.step,
            "head": state.params["head"],
            "opt_state": state.opt_state,
            "loss_state": state.loss_state,
            "counters": state.counters,
        },
    }


def _abstract(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


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
