"""Measures the cost of a cell before the first run: parameters, operations, memory and the time of a step."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mqmha_jax import parallel
from mqmha_jax.atomic import write_json
from mqmha_jax.config import Config
from mqmha_jax.config_io import differences, from_dict, to_dict
from mqmha_jax.errors import UserError
from mqmha_jax.flops import count_flops
from mqmha_jax.json_file import read_json
from mqmha_jax.study.plan import Cell
from mqmha_jax.study.spec import Budget
from mqmha_jax.train.build import Training, build_training

_WARM_UP, _TIMED = 2, 9


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one training step, and the number of parameters.

    Attributes:
      network_parameters: number of parameters of the network, which is kept after training.
      head_parameters: number of parameters of the loss, prototypes included.
      gigaflops: operations of a step, before compilation; None in results of earlier versions that could not say.
      memory_mb: arguments, results and temporary arrays of a step by the compiler's count, in 10^6 bytes; None if the
        compiler does not say.
      step_seconds: median time of a step with data at hand.
      utterances_per_second: batch size divided by that time.
      devices: devices of the measurement.
    """

    network_parameters: int
    head_parameters: int
    gigaflops: float | None
    memory_mb: float | None
    step_seconds: float
    utterances_per_second: float
    devices: str


def measure_or_read_cost(cell: Cell, num_speakers: int, kept: Path) -> Cost:
    """Measures the cost of a cell, or reads it if an earlier call kept it.

    Args:
      cell: cell to train.
      num_speakers: C.
      kept: file for the result.
    """
    if known := _read_known(kept, cell.config, num_speakers):
        return known
    cost = measure_cost(cell.config, num_speakers)
    content = {"cost": dataclasses.asdict(cost), "num_speakers": num_speakers, "config": to_dict(cell.config)}
    write_json(kept, content)
    return cost


def measure_cost(config: Config, num_speakers: int) -> Cost:
    """Compiles the step of an experiment and times it on random frames; the compilation cache keeps the program.

    Args:
      config: configuration of the experiment.
      num_speakers: C.
    """
    training = build_training(config, num_speakers=num_speakers, mesh=parallel.device_mesh(config.mesh))
    compiled = training.lower().compile()
    seconds = _step_seconds(training, config, num_speakers)
    memory: Any = compiled.memory_analysis()
    needed = memory and (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    network, head = (sum(x.size for x in jax.tree.leaves(training.state.params[part])) for part in ("net", "head"))
    return Cost(
        network_parameters=network,
        head_parameters=head,
        gigaflops=count_flops(training.step, training.state, training.batch, training.seed) / 1e9,
        memory_mb=needed and needed / 1e6,
        step_seconds=seconds,
        utterances_per_second=config.data.batch_size / seconds,
        devices=parallel.describe_devices(),
    )


def random_batch(training: Training, crop_frames: int, num_speakers: int) -> dict[str, np.ndarray]:
    """Draws this host's rows of a random batch: every array that the step takes, those of noise and rooms included.

    Args:
      training: training that defines names, shapes and types.
      crop_frames: T; all frames are valid.
      num_speakers: C.
    """
    rng = np.random.default_rng(0)
    batch = {}
    for name, spec in training.batch.items():
        shape = (spec.shape[0] // jax.process_count(), *spec.shape[1:])
        batch[name] = rng.normal(size=shape).astype(spec.dtype)  # log-mel features, noise, decay of rooms
    rows = len(batch["fbank"])
    return batch | {
        "num_frames": np.full(rows, crop_frames, np.int32),
        "speaker": rng.integers(0, num_speakers, rows, dtype=np.int32),
        "example": np.arange(rows, dtype=np.uint32),
    }


def check_minutes(cell: Cell, cost: Cost, budget: Budget) -> None:
    """Refuses a cell whose runs would take longer than the budget allows.

    Raises:
      UserError: a run takes too long; the message names the cell, the minutes, and the number of steps that would fit.
    """
    steps = cell.config.train.steps
    minutes = steps * cost.step_seconds / 60
    if minutes > budget.minutes_per_run:
        fitting = int(budget.minutes_per_run * 60 / cost.step_seconds)
        raise UserError(
            f"A run of cell {cell.name!r} would take {minutes:.1f} minutes ({steps} steps of {cost.step_seconds:.2f} s "
            f"on this machine), and the budget allows {budget.minutes_per_run:g}: give at most {fitting} steps, a "
            "smaller batch or crop, or more minutes with --minutes. No run was started."
        )


def _step_seconds(training: Training, config: Config, num_speakers: int) -> float:
    batch = random_batch(training, config.data.crop_frames, num_speakers)
    seed = parallel.place_seed(config.train.seed, training.mesh)
    state, placed = training.init(seed), parallel.place_batch(batch, training.mesh)
    seconds = []
    for _ in range(_WARM_UP + _TIMED):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(training.step(state, placed, seed))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[_WARM_UP:]))


def _read_known(kept: Path, config: Config, num_speakers: int) -> Cost | None:
    """Reads a kept cost; None if it is another network's or device's, missing or damaged: measuring again is quick."""
    try:
        known = read_json(kept, dict, advice="")
        cost = Cost(**known["cost"])
        same = known["num_speakers"] == num_speakers and cost.devices == parallel.describe_devices()
        return cost if same and not differences(from_dict(known["config"]), config) else None
    except (UserError, KeyError, TypeError):
        return None
