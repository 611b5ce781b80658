"""The training story, top to bottom: data, model, restore, then steps with log, evaluation and checkpoints."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import linen as nn
from tqdm import tqdm

from mqmha_jax.config import Config
from mqmha_jax.config_io import require_same_fbank
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.data.train_pipeline import train_batches
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.dev_list import DevList
from mqmha_jax.losses import build_loss
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.train import parallel, schedules
from mqmha_jax.train.checkpoint import Checkpoints
from mqmha_jax.train.clock import Clock
from mqmha_jax.train.metrics_log import MetricsLog
from mqmha_jax.train.optim import build_optimizer
from mqmha_jax.train.signals import stop_on_signal
from mqmha_jax.train.state import TrainState, initial_state
from mqmha_jax.train.step import build_train_step
from mqmha_jax.train.workdir import claim
from mqmha_jax.types import Batch


@dataclass(frozen=True)
class TrainResult:
    """How a call of ``train`` ended.

    Attributes:
      step: steps done in all.
      finished: False when a signal ended the call early; the same call goes on from there.
      data_wait: share of the loop's wall time spent waiting for a batch.
    """

    step: int
    finished: bool
    data_wait: float


def train(config: Config, workdir: Path, *, progress: bool = True) -> TrainResult:
    """Train an experiment, or go on where an earlier call in the same work directory stopped.

    Args:
      config: the experiment.
      workdir: where checkpoints, logs and the resolved configuration are kept.
      progress: show a progress bar.

    Raises:
      UserError: data, configuration and work directory do not fit together, or a checkpoint could not be written.
    """
    # ---- data
    if not config.data.train:
        raise UserError(
            "data.train is not set: give the training shards, data.train=DIR (see python -m data_prep --help)."
        )
    shards = open_shards(config.data.train)
    require_same_fbank(config.fbank, shards.spec, f"The training shards in {config.data.train}")
    dev = DevList(config.data, shards) if config.data.dev else None

    # ---- model
    net = build_speaker_net(config.model)
    loss = build_loss(config.loss, num_speakers=len(shards.speakers), embedding_dim=config.model.embedding_dim)
    learning_rate = schedules.learning_rate(config.optimizer, config.train.steps)
    optimizer = build_optimizer(config.optimizer, learning_rate)
    mesh = parallel.data_mesh(config.data.batch_size)
    train_step = build_train_step(
        config,
        net=net,
        loss=loss,
        optimizer=optimizer,
        learning_rate=learning_rate,
        margin_progress=schedules.margin_progress(config.loss, config.train.steps),
    )
    train_step = parallel.jit_step(train_step, mesh)

    with (
        claim(workdir, config, shards.identity()),
        Checkpoints(workdir, keep=config.train.keep_checkpoints) as checkpoints,
        stop_on_signal() as stop_requested,
    ):
        # ---- restore
        state = parallel.replicate(jax.jit(lambda: initial_state(config, net, loss, optimizer))(), mesh)
        if checkpoints.latest_step is not None:
            state = checkpoints.restore(state)
        step = first_step = int(state.step)

        # ---- steps
        clock = Clock(config.data.batch_size)
        shown: dict[str, str] = {}
        with (
            _batches(config, shards, first_step) as batches,
            MetricsLog(workdir, first_step=first_step) as log,
            tqdm(total=config.train.steps, initial=first_step, unit="step", disable=not progress) as bar,
        ):
            if dev and step == 0:
                state, shown["EER"] = _evaluate(dev, net, state, log)
            previous = None
            while step < config.train.steps and not stop_requested():
                with clock.waiting():
                    batch = parallel.place_batch(next(batches), mesh)
                state, metrics = train_step(state, batch)
                jax.block_until_ready(previous)  # the device works on this step while the host waits for the last
                previous = metrics
                step += 1
                clock.count_step()
                last = step == config.train.steps
                if last or step % config.train.log_every == 0:
                    values = {name: float(value) for name, value in metrics.items()} | clock.rates()
                    log.write(step, "train", values)
                    shown |= _shown(values)
                if dev and (last or step % config.train.evaluate_every == 0):
                    with clock.paused():
                        state, shown["EER"] = _evaluate(dev, net, state, log)
                if last or step % config.train.checkpoint_every == 0:
                    checkpoints.save(state)
                bar.set_postfix(shown, refresh=False)
                bar.update()
            checkpoints.save(state)
            checkpoints.wait()
    return TrainResult(step=step, finished=step >= config.train.steps, data_wait=clock.data_wait)


@contextlib.contextmanager
def _batches(config: Config, shards: FbankShards, first_step: int) -> Iterator[Iterator[Batch]]:
    batches = train_batches(
        shards,
        batch_size=config.data.batch_size,
        crop_frames=config.data.crop_frames,
        sampling=config.data.sampling,
        utterances_per_speaker=config.data.utterances_per_speaker,
        seed=config.train.seed,
        first_step=first_step,
        num_hosts=jax.process_count(),
        host=jax.process_index(),
        num_workers=config.data.num_workers,
    )
    try:
        yield batches
    finally:
        batches.close()


def _evaluate(dev: DevList, net: nn.Module, state: TrainState, log: MetricsLog) -> tuple[TrainState, str]:
    """The dev list's EER, logged; the state with the best one so far."""
    result = dev.evaluate(net, {"params": state.params["net"], "batch_stats": state.batch_stats})
    best = jnp.minimum(state.counters["best_eer"], jnp.float32(result.eer))
    log.write(int(state.step), "dev", {"eer": result.eer, "min_dcf": result.min_dcf[0.01], "best_eer": float(best)})
    return state.replace(counters=state.counters | {"best_eer": best}), f"{result.eer:.2%}"


def _shown(values: dict[str, float]) -> dict[str, str]:
    """What the progress bar says beside the EER."""
    return {
        "loss": f"{values['loss']:.3f}",
        "acc": f"{values['accuracy']:.1%}",
        "utt/s": f"{values['utterances_per_second']:.0f}",
        "data wait": f"{values['data_wait']:.1%}",
    }
