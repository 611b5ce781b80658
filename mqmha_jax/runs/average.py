"""Averages networks: the last checkpoints of a run, or a fine-tuned network and the one before fine-tuning."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from mqmha_jax.atomic import check_new_directory, making_directory
from mqmha_jax.config import Fraction
from mqmha_jax.field_checks import check_value
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.runs.carry_over import carry_over
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.finite import require_finite
from mqmha_jax.runs.load_network import load_network
from mqmha_jax.runs.other_network import warn_if_different
from mqmha_jax.runs.state import initial_network
from mqmha_jax.runs.workdir import copy_description, read_runnable_config


class Towards(NamedTuple):
    """Another network that an average moves towards.

    Attributes:
      workdir: of its run.
      share: of its values in the result, from 0 to 1.
    """

    workdir: Path
    share: float


def average_checkpoints(workdir: Path, last: int, output: Path, towards: Towards | None = None) -> list[int]:
    """Averages the last checkpoints of a run: network, normalisation statistics and prototypes.

    Args:
      workdir: of the run.
      last: number of its latest checkpoints.
      output: a new work directory with the result, to evaluate, to use, or to start from; not to be resumed. It
        appears when it is complete.
      towards: the network that the run was fine-tuned from. A mean of both can recognise unseen speakers better than
        either, because few speakers teach a network much that holds for them alone (Wortsman et al., arXiv
        2109.01903). The prototypes stay those of the run.

    Returns:
      The steps that were averaged.

    Raises:
      UserError: the run has fewer checkpoints, one is damaged, the other network has another encoder, the share is
        outside [0, 1], the average is not finite, or ``output`` exists already or cannot be written.
    """
    if towards is not None:
        check_value("share", towards.share, Fraction)
    config = read_runnable_config(workdir)
    check_new_directory(output)
    like = jax.eval_shape(partial(initial_network, config, build_speaker_net(config.model)))
    with Checkpoints(workdir) as checkpoints:

        def add(steps: Sequence[int]) -> tuple[PyTree, Sequence[int]]:
            total = None
            for step in steps:
                network, head = checkpoints.restore_network(like, step)[0], checkpoints.restore_head(step)[0]
                # float64 on the host: the mean of ten checkpoints keeps all digits, and one is in memory at a time.
                parts = jax.tree.map(lambda x: np.asarray(x, np.float64), {"network": network, "head": head})
                total = parts if total is None else jax.tree.map(np.add, total, parts)
            return total, steps

        total, steps = checkpoints.read_last(last, add)
    mean = jax.tree.map(lambda x: jax.numpy.asarray(x / last, np.float32), total)
    if towards is not None:
        mean = {**mean, "network": _move(mean["network"], towards)}
        warn_if_different(config, towards.workdir)
    require_finite(mean["network"], f"The average of the checkpoints of {workdir}")
    with making_directory(output) as unfinished:
        copy_description(workdir, unfinished)  # first, as the checkpoint notes to which run it belongs
        with Checkpoints(unfinished) as averaged:
            averaged.save_network(steps[-1], mean["network"], mean["head"])
    return list(steps)


def _move(network: Mapping[str, PyTree], towards: Towards) -> PyTree:
    """The network with a share of another's values; a part that the other lacks stays."""
    other = load_network(towards.workdir)
    advice = "A network can only move towards one of the same architecture: the run that it was fine-tuned from."
    theirs = carry_over(other.variables, other.net.pooling, network, towards.workdir, advice=advice).variables
    own, share = 1 - towards.share, towards.share
    return jax.tree.map(lambda ours, other: own * ours + share * other, dict(network), theirs)
