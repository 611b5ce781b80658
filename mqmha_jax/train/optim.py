"""The optimizer: decay of the right parameters, clipping, and the update rule."""

import jax
import optax
from jaxtyping import PyTree

from mqmha_jax.config import OptimizerConfig


def select_decayed(params: PyTree) -> PyTree:
    """Selects the parameters that weight decay applies to: kernels and prototypes, not biases, scales or offsets.

    Args:
      params: the parameter tree.

    Returns:
      The same tree of booleans.
    """
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def build_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """SGD with Nesterov momentum and coupled decay, as the field trains, or AdamW (Loshchilov & Hutter, 2019).

    Args:
      config: the update rule and its constants.

    Returns:
      Gradients -> directions. The training step subtracts a direction times the learning rate; both decays are part of
      the direction, so the rate scales them too.
    """
    clip = optax.clip_by_global_norm(config.max_gradient_norm) if config.max_gradient_norm else optax.identity()
    decay = optax.add_decayed_weights(config.weight_decay, mask=select_decayed)
    if config.name == "adamw":
        return optax.chain(clip, optax.scale_by_adam(b1=config.momentum), decay)
    # Clipping comes first: the limit is on the gradient of the loss, and decay must not use up a part of it.
    return optax.chain(clip, decay, optax.trace(decay=config.momentum, nesterov=config.momentum > 0))
