"""Makes a plan: what a configuration costs on a TPU slice."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from mqmha_jax import parallel
from mqmha_jax.config import Config, MeshConfig
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.plan.compiled import CompiledStep, compile_step
from mqmha_jax.plan.memory import Memory, list_remedies, split_memory
from mqmha_jax.plan.step_time import StepTime, Traffic, compute_step_time, sum_traffic
from mqmha_jax.plan.topology import Topology, chip_coordinates, parse_topology, topology_devices
from mqmha_jax.train.build import Training, build_training


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a configuration costs on a slice.

    Attributes:
      topology: the slice.
      mesh: devices along ``data`` and ``model``.
      num_speakers: C.
      batch_size: B over all chips.
      crop_frames: T.
      steps: length of the recipe.
      utterances: size of the corpus; None: unknown.
      batch_bytes: data that all hosts together load for a step.
      memory: memory of one chip.
      step: the compiler's answer.
      traffic: collectives by kind.
      time: time of a step; None where the program does not fit or its text is not understood.
      one_chip: time of the same share of the batch on a single chip; None where nobody asked, or as ``time``.
      remedies: what to change where the program does not fit.
    """

    topology: Topology
    mesh: dict[str, int]
    num_speakers: int
    batch_size: int
    crop_frames: int
    steps: int
    utterances: int | None
    batch_bytes: int
    memory: Memory
    step: CompiledStep
    traffic: tuple[Traffic, ...]
    time: StepTime | None
    one_chip: StepTime | None
    remedies: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """True if the compiler found room for it."""
        return self.step.fits


def make_plan(
    config: Config,
    topology_name: str,
    *,
    num_speakers: int,
    utterances: int | None = None,
    one_chip: bool = False,
    cache: Path | None = None,
    time_limit: float | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Compiles the training step for a slice and adds up what it costs.

    Args:
      config: the experiment.
      topology_name: e.g. ``v5e-256``.
      num_speakers: C, classes of the head.
      utterances: size of the corpus, for the length of the recipe in epochs.
      one_chip: True compiles for a single chip too, with the same share of the batch, for comparison.
      cache: directory of the compiler's earlier answers.
      time_limit: seconds after which a compilation is given up; None: never.
      progress: receives a line when something takes long.

    Raises:
      UserError: no such slice, no compiler, a configuration that does not suit the slice, a share of the batch that a
        single chip cannot train with, or no answer in time.
    """
    topology = parse_topology(topology_name)
    progress(f"Tracing the training step for {topology} ...")
    training = _build_step(config, topology, num_speakers)
    if one_chip:
        _check_share(config, topology)
    step = _compile(training, topology, cache, time_limit, progress)
    traffic = sum_traffic(step.collectives, topology, chip_coordinates(topology, training.mesh.devices.flat))
    memory = split_memory(training.state, training.batch, step, topology.chip.hbm_bytes)
    remedies = [] if step.fits else list_remedies(memory, config, logits_bytes=_logits_bytes(config, training))
    return Plan(
        topology=topology,
        mesh=dict(training.mesh.shape),
        num_speakers=num_speakers,
        batch_size=config.data.batch_size,
        crop_frames=config.data.crop_frames,
        steps=config.train.steps,
        utterances=utterances,
        batch_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in training.batch.values()),
        memory=memory,
        step=step,
        traffic=traffic,
        time=compute_step_time(step, traffic, topology.chip),
        one_chip=(
            _one_chip_time(config, topology, num_speakers, cache, time_limit, progress)
            if one_chip and step.fits
            else None
        ),
        remedies=tuple(remedies),
    )


def _build_step(config: Config, topology: Topology, num_speakers: int) -> Training:
    mesh = parallel.device_mesh(config.mesh, topology_devices(topology))
    return build_training(config, num_speakers=num_speakers, mesh=mesh)


def _compile(
    training: Training,
    topology: Topology,
    cache: Path | None,
    time_limit: float | None,
    progress: Callable[[str], None],
) -> CompiledStep:
    mesh = " x ".join(f"{name}={size}" for name, size in training.mesh.shape.items())
    return compile_step(
        training.lower(),
        target=f"{topology}; mesh {mesh}",
        num_devices=topology.num_chips,
        cache=cache,
        time_limit=time_limit,
        progress=progress,
    )


def _check_share(config: Config, topology: Topology) -> None:
    """Refuses a share of the batch that a single chip cannot train with, before the long compilation for all chips."""
    rows = config.data.batch_size // (topology.num_chips * config.optimizer.accumulate)
    groups = config.model.batch_norm_groups
    if rows >= 2 * groups and rows % groups == 0:
        return
    parts = f" in {config.optimizer.accumulate} parts" if config.optimizer.accumulate > 1 else ""
    smallest = topology.num_chips * config.optimizer.accumulate * 2 * groups
    raise UserError(
        f"One chip alone (--one-chip) cannot train with its share of the batch: data.batch_size="
        f"{config.data.batch_size} over {topology.num_chips} chips{parts} makes {count_noun(rows, 'example')}, and "
        f"batch normalisation needs 2 or more for each of model.batch_norm_groups={groups}, equally many. Leave out "
        f"--one-chip, or give e.g. data.batch_size={-(-config.data.batch_size // smallest) * smallest}."
    )


def _one_chip_time(
    config: Config,
    topology: Topology,
    num_speakers: int,
    cache: Path | None,
    time_limit: float | None,
    progress: Callable[[str], None],
) -> StepTime | None:
    chip = topology.chip
    single = Topology(f"one {chip.name} chip", chip, (1,) * chip.torus_dims)
    share = dataclasses.replace(config.data, batch_size=config.data.batch_size // topology.num_chips)
    mesh = MeshConfig(data=1, model=1, class_chunk=config.mesh.class_chunk)
    training = _build_step(dataclasses.replace(config, data=share, mesh=mesh), single, num_speakers)
    step = _compile(training, single, cache, time_limit, progress)
    return compute_step_time(step, (), chip)


def _logits_bytes(config: Config, training: Training) -> int:
    """Bytes of a chip's share of the float32 cosines of one part of the batch."""
    rows = config.data.batch_size // (config.optimizer.accumulate * training.mesh.shape[parallel.DATA])
    prototypes = training.state.params["head"]["prototypes"]
    classes, centres, _ = prototypes.sharding.shard_shape(prototypes.shape)
    return 4 * rows * classes * centres
