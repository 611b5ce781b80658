"""The schedules: learning rate, margin and inter-topK penalty, each a function of the step."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float

from mqmha_jax.config import LossConfig, OptimizerConfig
from mqmha_jax.errors import UserError

Schedule = Callable[[ArrayLike], Float[Array, ""]]

# The share of the final margin that an exponential growth still lacks at its end (WeSpeaker's MarginScheduler).
_EXPONENTIAL_RESIDUE = 1e-3


def learning_rate(config: OptimizerConfig, steps: int) -> Schedule:
    """Linear warm-up, then decay from ``learning_rate`` to ``final_learning_rate`` at the last step.

    Args:
      config: ``warmup`` is the fraction of the run in which the rate rises; ``schedule`` shapes the decay.
      steps: length of the run.

    Returns:
      step -> learning rate.

    Raises:
      UserError: the rate is 0, or an exponential decay is to end at 0.
    """
    if not config.learning_rate:
        raise UserError("optimizer.learning_rate=0 trains nothing; give a rate above 0, such as 0.1 for sgd.")
    if config.schedule == "exponential" and not config.final_learning_rate:
        raise UserError(
            "optimizer.final_learning_rate=0 cannot end an exponential decay, which never reaches 0. Give a rate above "
            f"0, such as {config.learning_rate / 1000:g} (a thousandth of optimizer.learning_rate), or "
            "optimizer.schedule=cosine."
        )
    warmup_steps = round(config.warmup * steps)
    decay_steps = max(steps - warmup_steps, 1)
    peak, final = config.learning_rate, config.final_learning_rate
    if config.schedule in ("constant", "plateau"):
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
    """Returns the share of the final margin, and of the final penalty, that applies at a step.

    Args:
      config: ``margin_start`` and ``margin_end`` are fractions of the run, ``margin_growth`` the shape between them.
      steps: length of the run.

    Returns:
      step -> 0 before the start, 1 after the end, rising in between. It multiplies both the margin and the penalty, so
      the penalty warms up in proportion to the margin (arXiv 2110.05042).
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


def after_evaluation(config: OptimizerConfig, counters: dict[str, Any], eer: Float[ArrayLike, ""]) -> dict[str, Any]:
    """Updates the counters after a dev evaluation: the best EER, and the rate that a plateau lowers.

    Args:
      config: with ``schedule="plateau"``, more than ``plateau_patience`` evaluations without a better EER multiply the
        rate by ``plateau_factor``, down to ``final_learning_rate``.
      counters: counters of the state.
      eer: EER of this evaluation, a fraction.

    Returns:
      New counters of the same names and types.
    """
    better = eer < counters["best_eer"]
    without_gain = jnp.where(better, 0, counters["evaluations_without_gain"] + 1)
    lowered = (config.schedule == "plateau") & (without_gain > config.plateau_patience)
    # The factor is part of the state and not of the schedule: it depends on evaluations, which a resumed run cannot
    # repeat.
    floor = config.final_learning_rate / config.learning_rate
    lower_factor = jnp.maximum(counters["rate_factor"] * config.plateau_factor, floor)
    return counters | {
        "best_eer": jnp.minimum(counters["best_eer"], jnp.float32(eer)),
        "rate_factor": jnp.where(lowered, jnp.minimum(lower_factor, counters["rate_factor"]), counters["rate_factor"]),
        "evaluations_without_gain": jnp.where(lowered, 0, without_gain),
    }
