"""The network of a run, without optimizer: for embedding, for evaluation, and to start other runs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
from jaxtyping import PyTree

from mqmha_jax.config import Config
from mqmha_jax.models.speaker_net import SpeakerNet, build_speaker_net
from mqmha_jax.parallel import vector_lanes
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.checkpoint_directory import Step
from mqmha_jax.runs.state import initial_network
from mqmha_jax.runs.workdir import read_runnable_config


class LoadedNetwork(NamedTuple):
    """A trained network and what is needed to use it.

    Attributes:
      config: the run's configuration.
      net: the network that it describes.
      variables: ``params`` and ``batch_stats``.
      step: number of its training steps.
      head: parameters of the head; empty unless asked for.
    """

    config: Config
    net: SpeakerNet
    variables: dict[str, PyTree]
    step: int
    head: Mapping[str, PyTree] = MappingProxyType({})


def load_network(workdir: Path, step: Step = None, *, with_head: bool = False) -> LoadedNetwork:
    """Loads the network of a checkpoint in a work directory, without optimizer.

    Args:
      workdir: of the run.
      step: of the checkpoint; "best": with the lowest dev EER, None: the newest.
      with_head: also load the head of this checkpoint.

    Raises:
      UserError: the directory holds no run or no complete checkpoint, or configuration and checkpoint differ.
    """
    config = read_runnable_config(workdir)
    net = build_speaker_net(config.model, lanes=vector_lanes())
    like = jax.eval_shape(partial(initial_network, config, net))
    with Checkpoints(workdir) as checkpoints:

        def load(step: int) -> LoadedNetwork:
            variables, _ = checkpoints.restore_network(like, step)
            head = checkpoints.restore_head(step)[0] if with_head else {}
            return LoadedNetwork(config, net, variables, step, head)

        return checkpoints.read(step, load)
