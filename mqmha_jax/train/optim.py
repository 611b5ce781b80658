"""The optimizer: decay of the right parameters, clipping, and the update rule."""

from typing import Any

import jax
import optax
from jaxtyping import PyTree

from mqmha_jax.config import OptimizerConfig
from mqmha_jax.train.part_rates import is_frozen_now, select_frozen


def select_decayed(params: PyTree) -> PyTree:
    """Selects the parameters that weight decay applies to: kernels and prototypes, not biases and normalisations.

    Args:
      params: the parameter tree.

    Returns:
      The same tree of booleans.
    """

    def is_decayed(path: tuple[jax.tree_util.DictKey, ...], leaf: Any) -> bool:
        return leaf.ndim > 1 and path[-1].key != "bias"  # scorers of several heads have a bias with several axes

    return jax.tree_util.tree_map_with_path(is_decayed, params)


def build_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformationExtraArgs:
    """SGD with Nesterov momentum and coupled decay, as the field trains, or AdamW (Loshchilov & Hutter, 2019).

    Args:
      config: the update rule and its constants.
      num_steps: steps of the run.

    Returns:
      Gradients -> directions. The training step subtracts a direction times the learning rate; both decays are part of
      the direction, so the rate scales them too. If parts are frozen for a while, ``update`` needs ``step``, the number
      of steps done.
    """
    clip = optax.clip_by_global_norm(config.max_gradient_norm) if config.max_gradient_norm else optax.identity()
    decay = optax.add_decayed_weights(config.weight_decay, mask=select_decayed)
    if config.name == "adamw":
        rule = [optax.scale_by_adam(b1=config.momentum), decay]
    else:
        rule = [decay, optax.trace(decay=config.momentum, nesterov=config.momentum > 0)]
    if config.unfreeze_after < 1:
        # A frozen part keeps an untouched state, so it starts later as it would have at the first step: without
        # momentum, and with Adam's correction for the first steps.
        learning = optax.chain(*rule)
        waiting = optax.conditionally_mask(
            learning, lambda _, step: ~is_frozen_now(config, step, num_steps), forward_extra_args=True
        )
        rule = [optax.partition({False: learning, True: waiting}, lambda params: select_frozen(params, config))]
    # Clipping comes first: the limit is on the gradient of the loss, and decay must not use up a part of it.
    return optax.with_extra_args_support(optax.chain(clip, *rule))
