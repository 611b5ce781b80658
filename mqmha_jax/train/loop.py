"""The training loop, top to bottom: data, model, restore, then steps with log, evaluation and checkpoints."""

import logging
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from mqmha_jax import parallel
from mqmha_jax.config import Config, TrainConfig
from mqmha_jax.config_io import to_dict
from mqmha_jax.data.joined_shards import open_training_shards
from mqmha_jax.data.noise_and_rooms import identify, open_noise_and_rooms
from mqmha_jax.device_memory import explain_exhaustion
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.evaluation.dev_list import DevList, open_dev_list
from mqmha_jax.models.padding_check import check_padding
from mqmha_jax.own_code.contents import hash_code
from mqmha_jax.own_code.mistakes import name_own_code
from mqmha_jax.own_code.names import code_names
from mqmha_jax.processes import any_process, is_first_process, raise_together, require_agreement
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.data_paths import locate_data
from mqmha_jax.runs.metrics_log import MetricsLog
from mqmha_jax.runs.other_network import warn_if_different
from mqmha_jax.runs.run_files import CONFIG_NAME
from mqmha_jax.runs.state import TrainState
from mqmha_jax.runs.workdir import claim_workdir, read_config
from mqmha_jax.train.batches import check_batch_memory, open_batches
from mqmha_jax.train.build import Training, build_training
from mqmha_jax.train.clock import Clock
from mqmha_jax.train.longer import warn_if_longer
from mqmha_jax.train.measurements import StepMeans, format_progress, read_memory
from mqmha_jax.train.profile import Profile
from mqmha_jax.train.schedules import after_evaluation
from mqmha_jax.train.signals import stop_on_signal
from mqmha_jax.train.skipped import SkippedSteps
from mqmha_jax.train.speaker_means import speaker_means
from mqmha_jax.train.start import initialize_from_run
from mqmha_jax.train.watchdog import Watchdog

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """How a call of ``train`` ended.

    Attributes:
      step: steps of the run so far.
      trained: steps of this call.
      skipped: steps of the run that were not finite and changed nothing.
      finished: False if a signal ended the call early; the same call resumes.
      data_wait: share of the loop's wall time spent waiting for a batch.
    """

    step: int
    trained: int
    skipped: int
    finished: bool
    data_wait: float

    def sentence(self) -> str:
        """Tells a user how the call ended."""
        if not self.finished:
            return f"Stopped after step {self.step}; run the same command again to resume."
        skipped = f"; {self.skipped} of {self.step} were not finite and skipped" if self.skipped else ""
        if not self.trained:
            done = count_noun(self.step, "step")
            return f"The run has its {done} already; train.steps=N with a larger N continues it{skipped}."
        total = f" ({self.step} in all)" if self.trained < self.step else ""
        trained = count_noun(self.trained, "step")
        return f"Trained {trained}{total}{skipped}; waited for data {self.data_wait:.1%} of the time."


class _Running(NamedTuple):
    """A step that the devices may still be working on."""

    step: int
    metrics: dict[str, Any]
    stop: Any


def train(config: Config, workdir: str | Path, *, progress: bool = True) -> TrainResult:
    """Trains an experiment, or resumes it where an earlier call in the same work directory stopped.

    Every process of a job calls this with the same arguments; ``workdir`` is a directory that all of them see.

    Args:
      config: the experiment.
      workdir: directory of the checkpoints, the logs and the resolved configuration.
      progress: show a progress bar.

    Raises:
      UserError: data, configuration, devices and work directory do not fit together, a checkpoint cannot be written,
        or the loss is no longer finite.
    """
    workdir = Path(workdir)
    # ---- data
    config = locate_data(config, workdir)
    check_batch_memory(config)
    shards = open_training_shards(config.data, config.fbank)
    dev = open_dev_list(config.data, shards)
    if dev is None and config.optimizer.schedule == "plateau":
        raise UserError("optimizer.schedule=plateau watches the dev EER: set data.dev and data.dev_trials.")
    noise_and_rooms = open_noise_and_rooms(config.augment, config.fbank, config.train.seed)
    data = shards.identity() | identify(noise_and_rooms) | ({"dev": dev.identity()} if dev else {})
    require_agreement([to_dict(config), data, hash_code(to_dict(config))], "configuration or other training data")

    # ---- model
    mesh = parallel.device_mesh(config.mesh)
    with name_own_code(to_dict(config)):  # before the work directory is claimed
        training = build_training(config, num_speakers=len(shards.speakers), mesh=mesh)
        if code_names(to_dict(config)):
            training.check()
            check_padding(training.net, config.model, config.data.crop_frames, config.fbank.num_features)
    seed = parallel.place_seed(config.train.seed, mesh)
    first = is_first_process()
    with raise_together():
        earlier = read_config(workdir) if first and (workdir / CONFIG_NAME).exists() else config

    with (
        claim_workdir(workdir, config, data, shards.speakers),
        explain_exhaustion(_need_less_memory(config)),
        Checkpoints(
            workdir,
            keep=config.train.keep_checkpoints,
            keep_best=config.train.keep_best if dev else 0,
            is_planned=lambda step: _due(config.train, step).checkpoint,
        ) as checkpoints,
        stop_on_signal() as stop_requested,
    ):
        # ---- restore
        if checkpoints.latest_step is not None:
            state = checkpoints.restore(training.state)
        else:
            shown_here = progress and first
            embed_speakers = partial(speaker_means, training.net, shards=shards, mesh=mesh, progress=shown_here)
            say = tqdm.write if shown_here else _log.info
            state = initialize_from_run(training.init(seed), config.start, shards.speakers, embed_speakers, say=say)
            if config.start.run and first:
                warn_if_different(config, Path(config.start.run))
        step = first_step = int(state.step)
        warn_if_longer(earlier, config, first_step)

        # ---- steps
        clock = Clock(config.data.batch_size)
        means = StepMeans()
        shown: dict[str, str] = {}
        with (
            open_batches(config, shards, noise_and_rooms, first_step, mesh) as batches,
            MetricsLog(workdir, first_step=first_step, enabled=first) as log,
            Watchdog(config.train.stall_seconds, log) as watchdog,
            Profile(workdir, config.train, enabled=first) as profile,
            tqdm(total=config.train.steps, initial=first_step, unit="step", disable=not (progress and first)) as bar,
            # Within a step only two explicit calls move data: its batch goes to the devices, measurements come back.
            # Any other transfer is a mistake that would make the host wait for the devices in every step.
            jax.transfer_guard("disallow"),
        ):
            skipped = SkippedSteps(config, shards, log)
            if dev and step == 0:
                # For comparison only: no checkpoint has this EER, so it cannot be the best one.
                _, eer = _evaluate(dev, config, training, state, log)
                shown["EER"] = f"{eer:.2%}"
            running: deque[_Running] = deque()
            stopping = False
            while step < config.train.steps and not stopping:
                profile.before(step + 1)
                with clock.waiting_for_data(), watchdog.waiting(step + 1):
                    batch = next(batches)
                # The step carries a request to stop to all processes, so that they stop after the same step.
                stop = any_process(stop_requested(), mesh)
                state, metrics = training.step(state, parallel.place_batch(batch, mesh), seed)
                step += 1
                running.append(_Running(step, metrics, stop))
                due = _due(config.train, step)
                # Measurements are fetched one step late: the devices already work on this step while the host waits for
                # the one before, so they never wait for the host. Only a log line, an evaluation or a checkpoint needs
                # the measurements of this very step.
                with clock.waiting_for_device():
                    while len(running) > (not any(due)):
                        # From all devices: device_get alone waits for one, and the process may end after the last step.
                        done = jax.device_get(jax.block_until_ready(running.popleft()))
                        skipped.check(done.step, done.metrics)
                        means.add(done.metrics)
                        stopping |= bool(done.stop)
                clock.count_step()
                if any(due):
                    _require_workdir(workdir)
                if due.log:
                    values = means.take() | clock.rates() | read_memory()
                    log.write(step, "train", values)
                    shown |= format_progress(values)
                latest_eer, is_best = None, False
                if dev and due.evaluate:
                    with clock.paused():
                        before = state.counters
                        state, latest_eer = _evaluate(dev, config, training, state, log)
                        shown["EER"] = f"{latest_eer:.2%}"
                    # The counters are float32, which may lie above an equal EER in Python's float64.
                    best_before, best = jax.device_get((before["best_eer"], state.counters["best_eer"]))
                    is_best = best < best_before
                if due.checkpoint or (is_best and config.train.keep_best > 0):
                    with jax.transfer_guard("allow"):
                        checkpoints.save(state, eer=latest_eer)
                profile.after(step, state)
                bar.set_postfix(shown, refresh=False)
                bar.update()
            for done in jax.device_get(list(running)):
                skipped.check(done.step, done.metrics)
        _require_workdir(workdir)
        checkpoints.save(state)
        checkpoints.wait()
    return TrainResult(
        step=step,
        trained=step - first_step,
        skipped=int(state.counters["skipped"]),
        finished=step >= config.train.steps,
        data_wait=clock.data_wait,
    )


class _Due(NamedTuple):
    """What follows a step."""

    log: bool
    evaluate: bool
    checkpoint: bool


def _due(config: TrainConfig, step: int) -> _Due:
    intervals = (config.log_every, config.evaluate_every, config.checkpoint_every)
    return _Due(*(step == config.steps or step % every == 0 for every in intervals))


def _need_less_memory(config: Config) -> str:
    return (
        f"Lower data.batch_size ({config.data.batch_size}) or data.crop_frames ({config.data.crop_frames}), pass the "
        f"batch in more parts (optimizer.accumulate, {config.optimizer.accumulate}), compute activations twice instead "
        "of keeping them (model.rematerialize=true), or with many speakers compare with some of them at a time "
        "(mesh.class_chunk=1024). Other programs on the device take memory too."
    )


def _require_workdir(workdir: Path) -> None:
    """Open files survive the deletion of their directory, so the run would continue and lose everything at its end."""
    if not (workdir / CONFIG_NAME).is_file():
        raise UserError(
            f"The work directory {workdir} was deleted or moved during the run, so nothing can be saved there. "
            "Training stops. Move it back and run the same command to resume, or start again."
        )


def _evaluate(
    dev: DevList, config: Config, training: Training, state: TrainState, log: MetricsLog
) -> tuple[TrainState, float]:
    """Measures and logs the dev EER; the new state holds the best one so far and the rate that a plateau lowers."""
    with jax.transfer_guard("allow"):
        result = dev.evaluate(training.net, state.network(), training.mesh)
        counters = _after_evaluation(config.optimizer, state.counters, result.eer)
        step, values = int(state.step), {"eer": result.eer, "min_dcf": result.min_dcf[0.01]}
        if step > 0:  # no checkpoint has the EER before the first step
            values["best_eer"] = float(counters["best_eer"])
        log.write(step, "dev", values)
        return state.replace(counters=parallel.put_like(counters, state.counters)), result.eer


_after_evaluation = jax.jit(after_evaluation, static_argnums=0)  # one program in place of ten
