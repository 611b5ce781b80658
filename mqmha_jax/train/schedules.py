"""What changes with the step: learning rate, margin and inter-topK penalty, each a function of the step alone."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float

from mqmha_jax.config import LossConfig, OptimizerConfig

Schedule = Callable[[ArrayLike], Float[Array, ""]]

# The share of the final margin that an exponential growth still lacks at its end (WeSpeaker's MarginScheduler).
_EXPONENTIAL_RESIDUE = 1e-3


def learning_rate(config: OptimizerConfig, steps: int) -> Schedule:
    """Linear warm-up from zero, then decay from ``learning_rate`` to ``final_learning_rate`` at the last step.

    Args:
      config: ``warmup`` is the fraction of the run that the rate rises; ``schedule`` shapes the decay.
      steps: length of the run.

    Returns:
      step -> learning rate.
    """
    warmup_steps = round(config.warmup * steps)
    decay_steps = max(steps - warmup_steps, 1)
    peak, final = config.learning_rate, config.final_learning_rate
    if config.schedule == "constant":
        decay = optax.constant_schedule(peak)
    elif config.schedule == "cosine":
        decay = optax.cosine_decay_schedule(peak, decay_steps, alpha=final / peak)
    else:
        decay = optax.exponential_decay(peak, decay_steps, final / peak, end_value=final)
    if warmup_steps == 0:
        return decay
    # The first update already moves: a rate of zero would waste it.
    warmup = optax.linear_schedule(peak / warmup_steps, peak, max(warmup_steps - 1, 1))
    return optax.join_schedules([warmup, decay], [warmup_steps])


def margin_progress(config: LossConfig, steps: int) -> Schedule:
    """The share of the final margin, and of the final penalty, that applies at a step.

    Args:
      config: ``margin_start`` and ``margin_end`` are fractions of the run, ``margin_growth`` the shape between them.
      steps: length of the run.

    Returns:
      step -> 0 before the start, 1 after the end, rising in between. Both the margin and the penalty are multiplied by
      it, so the penalty warms up in proportion to the margin (arXiv 2110.05042).
    """
    start, end = config.margin_start * steps, config.margin_end * steps

    def progress(step: ArrayLike) -> Float[Array, ""]:
        position = jnp.clip((jnp.asarray(step, jnp.float32) - start) / max(end - start, 1.0), 0.0, 1.0)
        if end <= start:
            return jnp.where(jnp.asarray(step) >= start, 1.0, 0.0)
        if config.margin_growth == "linear":
            return position
        return jnp.where(position < 1, 1 - _EXPONENTIAL_RESIDUE**position, 1.0)

    return progress
