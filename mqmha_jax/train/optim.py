"""The optimizer: decay of the right parameters, clipping, and the update rule."""

import jax
import optax
from jaxtyping import PyTree

from mqmha_jax.config import OptimizerConfig
from mqmha_jax.train.schedules import Schedule


def decayed(params: PyTree) -> PyTree:
    """Which parameters weight decay applies to: kernels and prototypes, not biases, scales or offsets.

    Args:
      params: the parameter tree.

    Returns:
      The same tree of booleans.
    """
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def build_optimizer(config: OptimizerConfig, schedule: Schedule) -> optax.GradientTransformation:
    """SGD with Nesterov momentum and coupled decay, as the field trains, or AdamW.

    Args:
      config: the update rule and its constants.
      schedule: step -> learning rate.
    """
    clip = optax.clip_by_global_norm(config.max_gradient_norm) if config.max_gradient_norm else optax.identity()
    if config.name == "adamw":
        return optax.chain(
            clip, optax.adamw(schedule, b1=config.momentum, weight_decay=config.weight_decay, mask=decayed)
        )
    return optax.chain(
        clip,
        optax.add_decayed_weights(config.weight_decay, mask=decayed),
        optax.sgd(schedule, momentum=config.momentum, nesterov=config.momentum > 0),
    )
