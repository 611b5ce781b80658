"""The network of a run, without head and optimizer: what embeds, evaluates and starts other runs."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
from jaxtyping import PyTree

from mqmha_jax.config import Config
from mqmha_jax.models.speaker_net import SpeakerNet, build_speaker_net
from mqmha_jax.parallel import vector_lanes
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.state import initial_network
from mqmha_jax.runs.workdir import read_runnable_config


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
    """Loads the network of a checkpoint in a work directory, without head and optimizer.

    Args:
      workdir: of the run.
      step: of the checkpoint; None: the newest.

    Raises:
      UserError: the directory holds no run or no complete checkpoint, or configuration and checkpoint differ.
    """
    config = read_runnable_config(workdir)
    net = build_speaker_net(config.model, lanes=vector_lanes())
    like = jax.eval_shape(partial(initial_network, config, net))
    with Checkpoints(workdir) as checkpoints:
        variables, step = checkpoints.restore_network(like, step)
    return LoadedNetwork(config, net, variables, step)
