"""Checkpoints of a run: save in the background, resume exactly, load parts. The only file that imports Orbax."""

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
_EER = "eer"

# A checkpoint holds three trees, so that extraction reads the network alone and fine-tuning network and head.
_NETWORK, _HEAD, _TRAINING = "network", "head", "training"


class Checkpoints:
    """The checkpoints in a work directory, one directory per step; half-written ones are never seen."""

    def __init__(self, workdir: Path, *, keep: int | None = None, keep_best: int = 0) -> None:
        """Open the checkpoints of a run.

        Args:
          workdir: the run's directory.
          keep: how many of the latest stay on disk; None keeps all.
          keep_best: how many with the lowest dev EER stay as well.
        """
        self._directory = (workdir / DIRECTORY).resolve()
        policies = ocp.training.preservation_policies
        best = policies.BestN(get_metric_fn=_eer, reverse=True, n=keep_best, keep_checkpoints_without_metrics=False)
        kept = policies.AnyPreservationPolicy([policies.LatestN(keep), best]) if keep else policies.PreserveAll()
        self._checkpointer = ocp.training.Checkpointer(
            self._directory,
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=kept,
            cleanup_tmp_directories=keep is not None,
        )

    @property
    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    @property
    def best_step(self) -> int | None:
        """The step of the checkpoint with the lowest dev EER, or None if none was evaluated."""
        evaluated = [checkpoint for checkpoint in self._checkpointer.checkpoints if checkpoint.metrics]
        return min(evaluated, key=lambda checkpoint: _eer(checkpoint.metrics)).step if evaluated else None

    @property
    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, rising."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    def save(self, state: TrainState, *, eer: float | None = None) -> None:
        """Start saving the state; returns as soon as the arrays are copied, the files are written in the background.

        Args:
          state: on every host, which all must call this.
          eer: its dev EER, where it was evaluated.

        Raises:
          UserError: this or the previous save could not be written, e.g. because the disk is full.
        """
        step = int(state.step)
        if step == self.latest_step:
            return
        metrics = None if eer is None else {_EER: eer}
        try:
            self._checkpointer.save_checkpointables_async(step, _split(state), force=True, metrics=metrics)
        except Exception as error:
            raise self._not_saved(error) from error

    def save_network(self, step: int, network: PyTree, head: PyTree) -> None:
        """Save a network and its head alone: to be used, or to start from, but not to be resumed."""
        try:
            self._checkpointer.save_checkpointables(step, {_NETWORK: network, _HEAD: head}, force=True)
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

        Raises:
          UserError: there is no (such) checkpoint.
        """
        step = self._existing(step)
        saved = self._checkpointer.checkpointables_metadata(step).metadata[_HEAD]
        return self._load(step, {_HEAD: _on_one_device(saved)})[_HEAD], step

    def _existing(self, step: int | None) -> int:
        steps = self.steps
        if not steps:
            raise UserError(f"No complete checkpoint in {self._directory}; train first, or wait for the first save.")
        if step is not None and step not in steps:
            raise UserError(f"No checkpoint of step {step} in {self._directory}; there are {steps}.")
        return steps[-1] if step is None else step

    def _load(self, step: int, wanted: dict[str, PyTree]) -> dict[str, PyTree]:
        saved = self._checkpointer.checkpointables_metadata(step).metadata
        if absent := [name for name in wanted if name not in saved]:
            raise UserError(
                f"The checkpoint of step {step} in {self._directory} holds no {absent[0]}: it is no checkpoint of a "
                "training run. It can be evaluated, and a new run can start from it (start.run)."
            )
        for name in wanted:
            self._check_shapes(step, wanted[name], saved[name])
        return self._checkpointer.load_checkpointables(step, wanted)

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


def _eer(metrics: PyTree) -> float:
    return metrics[_EER]


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
