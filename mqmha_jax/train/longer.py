"""Warns how more steps change the schedules of a run."""

import logging

from mqmha_jax.config import Config
from mqmha_jax.train import schedules

_LOGGER = logging.getLogger(__name__)


def warn_if_longer(before: Config, now: Config, step: int) -> None:
    """Warns how the schedules change at a step when a run gets more steps.

    Args:
      before: configuration that the run was trained with.
      now: configuration that it continues with.
      step: steps done.
    """
    if before.train.steps == now.train.steps or not step:
        return
    rates = [float(schedules.learning_rate(c.optimizer, c.train.steps)(step)) for c in (before, now)]
    shares = [float(schedules.margin_progress(c.loss, c.train.steps)(step)) for c in (before, now)]
    values = {"the learning rate": rates, "the share of the margin": shares}
    changes = [f"{name} goes from {old:.3g} to {new:.3g}" for name, (old, new) in values.items() if old != new]
    what = f"Schedules span the whole run, so here {' and '.join(changes)}. " if changes else ""
    _LOGGER.warning(
        "The run of %d steps continues after step %d towards %d. %sA run of %d steps from the start would differ.",
        before.train.steps,
        step,
        now.train.steps,
        what,
        now.train.steps,
    )
