"""One training step: batch in, new state and measurements out. A pure function to jit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, PyTree

from mqmha_jax.augment.mel_power import apply_noise_and_rooms
from mqmha_jax.augment.spec_augment import spec_augment
from mqmha_jax.config import Config
from mqmha_jax.features.cmn import subtract_mean
from mqmha_jax.losses import Loss, LossInputs
from mqmha_jax.runs.state import DROPOUT_STREAM, STEP_STREAM, TrainState, stream_key
from mqmha_jax.train.part_rates import leave_out_frozen, part_factors, stop_frozen_gradients
from mqmha_jax.train.schedules import Schedule

Metrics = dict[str, Float[Array, ""]]
TrainStep = Callable[[TrainState, dict[str, Array], Array], tuple[TrainState, Metrics]]


def build_train_step(
    config: Config,
    *,
    net: nn.Module,
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    learning_rate: Schedule,
    margin_progress: Schedule,
    unroll: bool = False,
) -> TrainStep:
    """Builds the training step of an experiment.

    Args:
      config: the experiment.
      net: fbank -> embedding.
      loss: embedding and speaker -> loss per example.
      optimizer: gradients -> directions, which the step multiplies by the learning rate.
      learning_rate: step -> learning rate.
      margin_progress: step -> share of the final margin and penalty.
      unroll: write the accumulated parts of a batch one after another instead of as a loop, in which XLA:CPU convolves
        fifty times slower.

    Returns:
      ``(state, batch, seed) -> (new state, metrics)``. The batch is a ``Batch`` of device arrays, the seed is the run's
      as uint32, the metrics are scalars. A step whose loss or gradient is not finite changes only the step number and
      the counters.
    """

    def mean_loss(
        params: PyTree, batch_stats: PyTree, loss_state: PyTree, batch: dict[str, Array], step: Array, seed: Array
    ) -> tuple[Array, Any]:
        # A key per example, not per row, because hosts see the rows of a global batch in different orders.
        step_key = jax.random.fold_in(stream_key(seed, STEP_STREAM), step)
        example_keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key, batch["example"])
        fbank = apply_noise_and_rooms(batch)
        mask = jnp.arange(fbank.shape[1])[None, :] < batch["num_frames"][:, None]
        fbank = subtract_mean(fbank, mask)
        fbank = spec_augment(fbank, mask, example_keys, config.spec_augment)
        # Before the network and not after the gradient, so that XLA leaves out the backward pass of frozen parts.
        params = stop_frozen_gradients(params, config.optimizer)
        variables = {"params": params["net"], "batch_stats": batch_stats}
        if config.start.batch_norm == "keep":
            embedding = net.apply(variables, fbank, mask, train=False)
        else:
            rngs = {"dropout": _dropout_key(seed, step, batch["example"])}
            embedding, updated = net.apply(variables, fbank, mask, train=True, mutable=["batch_stats"], rngs=rngs)
            batch_stats = updated.get("batch_stats", {})
        progress = margin_progress(step)
        margin, penalty = progress * config.loss.margin, progress * config.loss.penalty
        example_loss, measured, loss_state = loss.apply(
            params["head"],
            loss_state,
            LossInputs(embedding=embedding, speaker=batch["speaker"], example=batch["example"]),
            margin=margin,
            penalty=penalty,
        )
        metrics = {name: jnp.mean(value) for name, value in measured.items()}
        metrics |= {"loss": jnp.mean(example_loss), "margin": margin, "penalty": penalty}
        return metrics["loss"], (metrics, batch_stats, loss_state)

    def step(state: TrainState, batch: dict[str, Array], seed: Array) -> tuple[TrainState, Metrics]:
        num_parts = config.optimizer.accumulate
        # Losses over pairs compare utterances of a speaker, which are adjacent rows.
        together = config.data.utterances_per_speaker if config.loss.pairs else 1

        def add_part(carry: tuple[Any, Any, Any], part: dict[str, Array]) -> tuple[tuple[Any, Any, Any], Metrics]:
            batch_stats, loss_state, total = carry
            (_, (metrics, batch_stats, loss_state)), gradients = jax.value_and_grad(mean_loss, has_aux=True)(
                state.params, batch_stats, loss_state, part, state.step, seed
            )
            return (batch_stats, loss_state, jax.tree.map(jnp.add, total, gradients)), metrics

        # Batch statistics and the loss's memory pass from part to part, as they would from step to step with smaller
        # batches.
        start = (state.batch_stats, state.loss_state, optax.tree.zeros_like(state.params))
        parts = jax.tree.map(lambda x: _interleave(x, num_parts, together), batch)
        over_parts = _unroll if unroll or num_parts == 1 else lax.scan
        (batch_stats, loss_state, total), metrics = over_parts(add_part, start, parts)
        factors = part_factors(state.params, config.optimizer, state.step, config.train.steps)
        gradients = leave_out_frozen(jax.tree.map(lambda x: x / num_parts, total), factors)
        metrics = {name: value.mean() for name, value in metrics.items()}
        gradient_norm = optax.tree.norm(gradients)
        directions, opt_state = optimizer.update(gradients, state.opt_state, state.params, step=state.step)
        # A function of ``state.step``, which counts skipped steps too; a plateau lowers the factor from outside.
        rate = jnp.asarray(learning_rate(state.step), jnp.float32) * state.counters["rate_factor"]
        updated = state.replace(
            params=optax.apply_updates(
                state.params, jax.tree.map(lambda direction, factor: -rate * factor * direction, directions, factors)
            ),
            batch_stats=batch_stats,
            opt_state=opt_state,
            loss_state=loss_state,
        )
        updated = updated.replace(average=_move_average(updated, config.optimizer.ema))
        # Decided on the devices, so that no step waits for the host. Both are global values, so all devices decide
        # alike.
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(gradient_norm)
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
        skipped = jnp.where(finite, 0, 1)
        counters = state.counters | {
            "skipped": state.counters["skipped"] + skipped,
            "skipped_in_row": (state.counters["skipped_in_row"] + 1) * skipped,
        }
        metrics |= {"gradient_norm": gradient_norm, "learning_rate": rate}
        metrics |= {name: counters[name].astype(jnp.float32) for name in ("skipped", "skipped_in_row")}
        # A skipped step counts: batches, schedules and random keys follow the step number, and a resumed run must meet
        # the same.
        return kept.replace(step=state.step + 1, counters=counters), metrics

    return step


def _dropout_key(seed: Array, step: Array, example: Array) -> Array:
    """The key of the network's own randomness, which only own code uses: another one for each part of a batch."""
    return jax.random.fold_in(jax.random.fold_in(stream_key(seed, DROPOUT_STREAM), step), example.min())


def _unroll(body: Callable, carry: Any, parts: dict[str, Array]) -> tuple[Any, Any]:
    """Like ``lax.scan``, written out. Its own option ``unroll`` still leaves a loop."""
    results = []
    for i in range(len(parts["example"])):
        carry, result = body(carry, {name: x[i] for name, x in parts.items()})
        results.append(result)
    return carry, jax.tree.map(lambda *values: jnp.stack(values), *results)


def _interleave(x: Array, parts: int, together: int) -> Array:
    """Makes ``[parts, B / parts, ...]`` of ``[B, ...]``: part i holds the groups of rows i, i + parts, ...

    Args:
      x: rows of a batch.
      parts: number of parts.
      together: number of adjacent rows in a group.
    """
    # Interleaved and not cut into blocks: the rows of each part then lie evenly on all devices, and no row moves.
    groups = x.reshape(-1, parts, together, *x.shape[1:])
    return jnp.moveaxis(groups, 1, 0).reshape(parts, -1, *x.shape[1:])


def _move_average(state: TrainState, decay: float) -> PyTree:
    """Returns the average after one more step. It warms up, so that the first steps fade from it."""
    if not decay:
        return {}
    share = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    latest = {"params": state.params["net"], "batch_stats": state.batch_stats}
    return jax.tree.map(lambda average, new: share * average + (1 - share) * new, state.average, latest)
