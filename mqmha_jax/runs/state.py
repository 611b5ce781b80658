"""Everything that training changes, as one tree of arrays."""

from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, PyTree

from mqmha_jax.config import Config
from mqmha_jax.losses import Loss

# How the one seed of a run splits into independent streams of randomness.
INIT_STREAM, STEP_STREAM, DROPOUT_STREAM = 0, 1, 2


class TrainState(flax.struct.PyTreeNode):
    """The state of a run after ``step`` steps; a resume needs only this state and the configuration.

    The same tree holds shapes or shardings in place of the arrays where these are wanted.

    Attributes:
      step: number of steps done, int32.
      params: ``{"net": ..., "head": ...}``; extraction needs ``net`` only.
      batch_stats: running mean and variance of the network's batch normalisations.
      average: exponential average of ``params["net"]`` and ``batch_stats``; empty where none is kept.
      opt_state: the optimizer's state.
      loss_state: state of losses that keep one; empty for margin losses.
      counters: ``skipped`` and ``skipped_in_row`` (non-finite steps), ``best_eer`` (lowest dev EER so far, a fraction),
        and what the plateau schedule remembers: ``rate_factor`` and ``evaluations_without_gain``.
    """

    step: Any
    params: PyTree
    batch_stats: PyTree
    average: PyTree
    opt_state: PyTree
    loss_state: PyTree
    counters: dict[str, Any]

    def network(self) -> dict[str, PyTree]:
        """``params`` and ``batch_stats`` of the network to evaluate and use: the average where one is kept."""
        return self.average or {"params": self.params["net"], "batch_stats": self.batch_stats}


def stream_key(seed: int | Array, stream: int) -> Array:
    """The key of one of the run's streams of randomness."""
    return jax.random.fold_in(jax.random.key(seed), stream)


def initial_network(config: Config, net: nn.Module, seed: Array | None = None) -> dict[str, PyTree]:
    """The untrained network: ``params`` and ``batch_stats``.

    Args:
      config: gives the seed and the input's shape.
      net: the speaker network.
      seed: instead of the configuration's, where it is an argument of a program.
    """
    key = jax.random.fold_in(stream_key(config.train.seed if seed is None else seed, INIT_STREAM), 0)
    fbank = jnp.zeros((1, config.data.crop_frames, config.fbank.num_features), jnp.float32)
    init = jax.jit(partial(net.init, train=False))
    return {"batch_stats": {}, **init(key, fbank, jnp.ones(fbank.shape[:2], bool))}


def initial_state(
    config: Config, net: nn.Module, loss: Loss, optimizer: optax.GradientTransformation, seed: Array | None = None
) -> TrainState:
    """The state before the first step, a function of the configuration alone.

    Args:
      config: gives the seed and the input's shape.
      net: the speaker network.
      loss: the training loss with the class prototypes.
      optimizer: its state starts here.
      seed: as for ``initial_network``.
    """
    network = initial_network(config, net, seed)
    loss_key = jax.random.fold_in(stream_key(config.train.seed if seed is None else seed, INIT_STREAM), 1)
    params = {"net": network["params"], "head": loss.init(loss_key)}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=network["batch_stats"],
        average=jax.tree.map(jnp.copy, network) if config.optimizer.ema else {},
        opt_state=optimizer.init(params),
        loss_state=loss.initial_state,
        counters={
            "skipped": jnp.zeros((), jnp.int32),
            "skipped_in_row": jnp.zeros((), jnp.int32),
            "best_eer": jnp.ones((), jnp.float32),
            "rate_factor": jnp.ones((), jnp.float32),
            "evaluations_without_gain": jnp.zeros((), jnp.int32),
        },
    )
