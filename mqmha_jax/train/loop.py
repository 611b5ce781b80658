"""The training story, top to bottom: data, model, restore, then steps with log, evaluation and checkpoints."""

import contextlib
import resource
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from mqmha_jax import parallel
from mqmha_jax.config import Config, TrainConfig
from mqmha_jax.config_io import require_same_fbank, to_dict
from mqmha_jax.data.noise_and_rooms import NoiseAndRooms, identify, open_noise_and_rooms
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.data.train_pipeline import train_batches
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.dev_list import DevList
from mqmha_jax.own_code import hash_code
from mqmha_jax.processes import any_process, is_first_process, require_agreement
from mqmha_jax.runs.checkpoint import Checkpoints
from mqmha_jax.runs.metrics_log import MetricsLog
from mqmha_jax.runs.state import TrainState
from mqmha_jax.runs.workdir import claim_workdir
from mqmha_jax.train.build import Training, build_training
from mqmha_jax.train.clock import Clock
from mqmha_jax.train.profile import Profile
from mqmha_jax.train.schedules import after_evaluation
from mqmha_jax.train.signals import stop_on_signal
from mqmha_jax.train.skipped import SkippedSteps
from mqmha_jax.train.start import initialize_from_run
from mqmha_jax.train.watchdog import Watchdog
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


class _Running(NamedTuple):
    """A step that the devices may still be working on."""

    step: int
    metrics: dict[str, Any]
    stop: Any


def train(config: Config, workdir: Path, *, progress: bool = True) -> TrainResult:
    """Train an experiment, or go on where an earlier call in the same work directory stopped.

    Every process of a job calls this with the same arguments; ``workdir`` is a directory that all of them see.

    Args:
      config: the experiment.
      workdir: where checkpoints, logs and the resolved configuration are kept.
      progress: show a progress bar.

    Raises:
      UserError: data, configuration, devices and work directory do not fit together, a checkpoint could not be
        written, or the loss is no longer finite.
    """
    # ---- data
    shards = _open_training_shards(config)
    dev = DevList(config.data, shards) if config.data.dev else None
    if dev is None and config.optimizer.schedule == "plateau":
        raise UserError("optimizer.schedule=plateau watches the dev EER: set data.dev and data.dev_trials.")
    noise_and_rooms = open_noise_and_rooms(config.augment, config.fbank, config.train.seed)
    data = shards.identity() | identify(noise_and_rooms)
    require_agreement([to_dict(config), data, hash_code(to_dict(config))], "configuration or other training data")

    # ---- model
    mesh = parallel.device_mesh(config.mesh)
    training = build_training(config, num_speakers=len(shards.speakers), mesh=mesh)
    seed = parallel.place_seed(config.train.seed, mesh)
    first = is_first_process()

    with (
        claim_workdir(workdir, config, data, shards.speakers),
        Checkpoints(
            workdir, keep=config.train.keep_checkpoints, keep_best=config.train.keep_best if dev else 0
        ) as checkpoints,
        stop_on_signal() as stop_requested,
    ):
        # ---- restore
        if checkpoints.latest_step is not None:
            state = checkpoints.restore(training.state)
        else:
            state = initialize_from_run(training.init(seed), config.start, shards.speakers)
        step = first_step = int(state.step)

        # ---- steps
        clock = Clock(config.data.batch_size)
        shown: dict[str, str] = {}
        with (
            _batches(config, shards, noise_and_rooms, first_step) as batches,
            MetricsLog(workdir, first_step=first_step, enabled=first) as log,
            Watchdog(config.train.stall_seconds, log) as watchdog,
            Profile(workdir, config.train, enabled=first) as profile,
            tqdm(total=config.train.steps, initial=first_step, unit="step", disable=not (progress and first)) as bar,
            # In a step only its batch goes to the devices and only measurements come back, both by explicit calls.
            jax.transfer_guard("disallow"),
        ):
            skipped = SkippedSteps(config, shards, log)
            if dev and step == 0:
                state, eer = _evaluate(dev, config, training, state, log)
                shown["EER"] = f"{eer:.2%}"
            running: deque[_Running] = deque()
            stopping = False
            while step < config.train.steps and not stopping:
                profile.before(step + 1)
                with clock.waiting_for_data(), watchdog.waiting(step + 1):
                    batch = next(batches)
                # A request to stop travels with the step, so that all processes stop after the same one.
                stop = any_process(stop_requested(), mesh)
                state, metrics = training.step(state, parallel.place_batch(batch, mesh), seed)
                step += 1
                running.append(_Running(step, metrics, stop))
                due = _due(config.train, step)
                with clock.waiting_for_device():  # for the last step: the device works on this one meanwhile
                    while len(running) > (not any(due)):
                        # Of all devices: device_get alone waits for one, and a process may leave after the last step.
                        done = jax.device_get(jax.block_until_ready(running.popleft()))
                        skipped.check(done.step, done.metrics)
                        stopping |= bool(done.stop)
                clock.count_step()
                if due.log:
                    values = {name: float(value) for name, value in done.metrics.items()} | clock.rates() | _memory()
                    log.write(step, "train", values)
                    shown |= _shown(values)
                latest_eer = None
                if dev and due.evaluate:
                    with clock.paused():
                        best = float(jax.device_get(state.counters["best_eer"]))
                        state, latest_eer = _evaluate(dev, config, training, state, log)
                        shown["EER"] = f"{latest_eer:.2%}"
                is_best = latest_eer is not None and latest_eer < best and config.train.keep_best > 0
                if due.checkpoint or is_best:
                    with jax.transfer_guard("allow"):
                        checkpoints.save(state, eer=latest_eer)
                profile.after(step, state)
                bar.set_postfix(shown, refresh=False)
                bar.update()
            for done in jax.device_get(list(running)):
                skipped.check(done.step, done.metrics)
        checkpoints.save(state)
        checkpoints.wait()
    return TrainResult(step=step, finished=step >= config.train.steps, data_wait=clock.data_wait)


def _open_training_shards(config: Config) -> FbankShards:
    if not config.data.train:
        raise UserError(
            "data.train is not set: give the training shards, data.train=DIR (see python -m data_prep --help)."
        )
    shards = open_shards(config.data.train, original_speed_only=config.data.original_speed_only)
    require_same_fbank(config.fbank, shards.spec, f"The training shards in {config.data.train}")
    return shards


@contextlib.contextmanager
def _batches(
    config: Config, shards: FbankShards, noise_and_rooms: NoiseAndRooms | None, first_step: int
) -> Iterator[Iterator[Batch]]:
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
        read_threads=config.data.read_threads,
        noise_and_rooms=noise_and_rooms,
    )
    try:
        yield batches
    finally:
        batches.close()


class _Due(NamedTuple):
    """What follows a step."""

    log: bool
    evaluate: bool
    checkpoint: bool


def _due(config: TrainConfig, step: int) -> _Due:
    intervals = (config.log_every, config.evaluate_every, config.checkpoint_every)
    return _Due(*(step == config.steps or step % every == 0 for every in intervals))


def _evaluate(
    dev: DevList, config: Config, training: Training, state: TrainState, log: MetricsLog
) -> tuple[TrainState, float]:
    """The dev list's EER, logged; the state with the best one so far and what a plateau does to the rate."""
    with jax.transfer_guard("allow"):
        result = dev.evaluate(training.net, state.network(), training.mesh)
        counters = _after_evaluation(config.optimizer, state.counters, result.eer)
        values = {"eer": result.eer, "min_dcf": result.min_dcf[0.01], "best_eer": float(counters["best_eer"])}
        log.write(int(state.step), "dev", values)
        return state.replace(counters=parallel.put_like(counters, state.counters)), result.eer


_after_evaluation = jax.jit(after_evaluation, static_argnums=0)  # one program in place of ten


def _memory() -> dict[str, float]:
    """Largest memory so far, in 10^9 bytes: of this process, and of its first device where that can tell."""
    on_device = jax.local_devices()[0].memory_stats() or {}
    memory = {"host_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}
    if "peak_bytes_in_use" in on_device:
        memory["device_memory_gb"] = on_device["peak_bytes_in_use"] / 1e9
    return memory


def _shown(values: dict[str, float]) -> dict[str, str]:
    """What the progress bar says beside the EER."""
    return {
        "loss": f"{values['loss']:.3f}",
        "acc": f"{values['accuracy']:.1%}",
        "utt/s": f"{values['utterances_per_second']:.0f}",
        "data wait": f"{values['data_wait']:.1%}",
    }
