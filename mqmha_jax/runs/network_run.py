"""A work directory with a network that was not trained in it, such as an import: to use, or to start a run from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from mqmha_jax.atomic import check_new_directory, making_directory
from mqmha_jax.config import Config
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.workdir import lock_workdir


def write_network_run(
    output: Path,
    config: Config,
    data: Mapping[str, Any],
    network: PyTree,
    *,
    head: PyTree,
    speakers: Sequence[str] = (),
    step: int = 0,
) -> None:
    """Writes a new work directory, which appears when it is complete.

    Args:
      output: the directory; it must not exist.
      config: the experiment; the network must be the one that it describes.
      data: where the network comes from.
      network: ``params`` and ``batch_stats``.
      head: parameters of the head, ``{}`` if there is none.
      speakers: names of the head's classes.
      step: of the checkpoint.

    Raises:
      UserError: the directory exists or cannot be written.
    """
    check_new_directory(output)
    with (
        making_directory(output) as unfinished,
        lock_workdir(unfinished, config, dict(data), speakers),
        Checkpoints(unfinished) as checkpoints,
    ):
        checkpoints.save_network(step, network, head)
