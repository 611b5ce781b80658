"""One training step: batch in, new state and measurements out; pure, to be jitted."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from mqmha_jax.augment.spec_augment import spec_augment
from mqmha_jax.config import Config
from mqmha_jax.features.cmn import subtract_mean
from mqmha_jax.losses import Loss, LossInputs
from mqmha_jax.train.schedules import Schedule
from mqmha_jax.train.state import STEP_STREAM, TrainState, stream_key

Metrics = dict[str, Float[Array, ""]]
TrainStep = Callable[[TrainState, dict[str, Array]], tuple[TrainState, Metrics]]


def build_train_step(
    config: Config,
    *,
    net: nn.Module,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    learning_rate: Schedule,
    margin_progress: Schedule,
) -> TrainStep:
    """The training step of an experiment.

    Args:
      config: the experiment.
      net: fbank -> embedding.
      loss: embedding and speaker -> loss per example.
      optimizer: gradients -> updates.
      learning_rate: step -> learning rate, for the log; the optimizer holds the same schedule.
      margin_progress: step -> share of the final margin and penalty.

    Returns:
      ``(state, batch) -> (new state, metrics)``. The batch is a ``Batch`` of device arrays; the metrics are scalars. A
      step whose loss or gradient is not finite leaves everything but the step number and ``counters["skipped"]`` as it
      was.
    """

    def mean_loss(params: PyTree, state: TrainState, batch: dict[str, Array]) -> tuple[Array, Any]:
        step_key = jax.random.fold_in(stream_key(config.train.seed, STEP_STREAM), state.step)
        # One key per example, not per row: hosts see the same global batch in another row order.
        example_keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key, batch["example"])
        mask = jnp.arange(batch["fbank"].shape[1])[None, :] < batch["num_frames"][:, None]
        fbank = subtract_mean(batch["fbank"].astype(jnp.float32), mask)
        fbank = spec_augment(fbank, mask, example_keys, config.spec_augment)
        embedding, new_variables = net.apply(
            {"params": params["net"], "batch_stats": state.batch_stats},
            fbank,
            mask,
            train=True,
            mutable=["batch_stats"],
        )
        progress = margin_progress(state.step)
        margin, penalty = progress * config.loss.margin, progress * config.loss.penalty
        example_loss, measured, loss_state = loss.apply(
            params["head"],
            state.loss_state,
            LossInputs(embedding=embedding, speaker=batch["speaker"]),
            margin=margin,
            penalty=penalty,
        )
        metrics = {name: jnp.mean(value) for name, value in measured.items()}
        metrics |= {"margin": margin, "penalty": penalty}
        return jnp.mean(example_loss), (metrics, new_variables.get("batch_stats", {}), loss_state)

    def step(state: TrainState, batch: dict[str, Array]) -> tuple[TrainState, Metrics]:
        (value, (metrics, batch_stats, loss_state)), gradients = jax.value_and_grad(mean_loss, has_aux=True)(
            state.params, state, batch
        )
        gradient_norm = optax.tree.norm(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        updated = state.replace(
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
            loss_state=loss_state,
        )
        finite = jnp.isfinite(value) & jnp.isfinite(gradient_norm)
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
        counters = state.counters | {"skipped": state.counters["skipped"] + jnp.where(finite, 0, 1)}
        metrics |= {
            "loss": value,
            "gradient_norm": gradient_norm,
            "learning_rate": jnp.asarray(learning_rate(state.step), jnp.float32),
            "skipped": counters["skipped"].astype(jnp.float32),
        }
        return kept.replace(step=state.step + 1, counters=counters), metrics

    return step
