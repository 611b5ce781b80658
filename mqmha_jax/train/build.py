"""Builds everything of a run but its data: network, loss, optimizer and the compiled step, on a mesh."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from mqmha_jax import parallel
from mqmha_jax.config import Config
from mqmha_jax.errors import UserError
from mqmha_jax.losses import ClassLayout, build_loss
from mqmha_jax.models.cpu_convolutions import convolution_options
from mqmha_jax.models.kernel_gradients import speed_up_kernel_gradients
from mqmha_jax.models.speaker_net import SpeakerNet, build_speaker_net
from mqmha_jax.models.trusted_convolutions import convolve_by_products, trust_convolutions
from mqmha_jax.processes import any_process
from mqmha_jax.runs.state import TrainState, initial_state
from mqmha_jax.train import schedules
from mqmha_jax.train.optim import build_optimizer
from mqmha_jax.train.part_rates import check_parts
from mqmha_jax.train.step import TrainStep, build_train_step


class Training(NamedTuple):
    """A run's computation, before it holds any numbers.

    Attributes:
      net: the speaker network.
      mesh: the devices.
      init: ``(seed) -> TrainState``, jitted: the state before the first step, on the mesh, from a seed of
        ``parallel.place_seed``. Runs that differ only in the seed share their compiled programs, because it is an
        argument.
      step: ``(state, batch, seed) -> (state, metrics)``, jitted; the new state takes the old one's memory.
      state: shapes, types and shardings of the state.
      batch: shapes, types and shardings of a global batch.
      seed: shape, type and sharding of the seed.
    """

    net: nn.Module
    mesh: Mesh
    init: Any
    step: Any
    state: TrainState
    batch: dict[str, jax.ShapeDtypeStruct]
    seed: jax.ShapeDtypeStruct

    def check(self) -> None:
        """Traces the step and the network as evaluation uses it, without data: a mistake in them raises here."""
        self.step.trace(self.state, self.batch, self.seed)
        fbank, num_frames = self.batch["fbank"], self.batch["num_frames"]
        frames = jax.ShapeDtypeStruct(fbank.shape, np.float32)
        mask = jax.ShapeDtypeStruct((*num_frames.shape, fbank.shape[1]), bool)
        jax.eval_shape(functools.partial(self.net.apply, train=False), self.state.network(), frames, mask)

    def lower(self) -> jax.stages.Lowered:
        """Lowers the step for the mesh, whose devices may be absent."""
        return self.step.lower(self.state, self.batch, self.seed)


def build_training(config: Config, *, num_speakers: int, mesh: Mesh) -> Training:
    """Builds the computation of a configuration on a mesh.

    Args:
      config: the experiment; the paths of its data are not used.
      num_speakers: C, classes of the head.
      mesh: mesh of ``parallel.device_mesh``, of real devices or of a topology.

    Raises:
      UserError: parts, batch, classes and mesh do not fit together.
    """
    parallel.check_batch(config.data.batch_size, config.optimizer.accumulate, mesh)
    parallel.check_classes(ClassLayout(num_speakers).num_rows, mesh)
    _check_rows(config)
    _check_pairs(config)
    net = build_speaker_net(config.model, lanes=parallel.vector_lanes(mesh))
    if mesh.devices.flat[0].platform == "gpu":
        net = _trust_convolutions(net, config, mesh)
    net = speed_up_kernel_gradients(net, mesh)
    loss = build_loss(
        config.loss,
        num_speakers=num_speakers,
        embedding_dim=config.model.embedding_dim,
        mesh=mesh,
        class_chunk=config.mesh.class_chunk,
    )
    optimizer = build_optimizer(config.optimizer, config.train.steps)
    step = build_train_step(
        config,
        net=net,
        loss=loss,
        optimizer=optimizer,
        learning_rate=schedules.learning_rate(config.optimizer, config.train.steps),
        margin_progress=schedules.margin_progress(config.loss, config.train.steps),
        # XLA:CPU convolves far slower inside a loop; elsewhere a loop compiles one part for all of them.
        unroll=mesh.devices.flat[0].platform == "cpu",
    )
    init = functools.partial(initial_state, config, net, loss, optimizer)
    seed = jax.ShapeDtypeStruct((), np.uint32, sharding=parallel.replicated_sharding(mesh))
    shapes = jax.eval_shape(init, seed)
    check_parts(shapes.params, config.optimizer)
    shardings = parallel.state_sharding(mesh, shapes)
    return Training(
        net=net,
        mesh=mesh,
        init=jax.jit(init, out_shardings=shardings),
        step=_jit(step, mesh, shardings),
        state=jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings),
        batch=_abstract_batch(config, mesh),
        seed=seed,
    )


def _trust_convolutions(net: SpeakerNet, config: Config, mesh: Mesh) -> SpeakerNet:
    """All processes compute convolutions in the same way, the safe one if a single GPU needs it."""
    rows = config.data.batch_size // config.optimizer.accumulate // mesh.size
    trusted = trust_convolutions(net, config.fbank.num_features, rows=rows, frames=config.data.crop_frames)
    return convolve_by_products(net) if any_process(trusted is not net, mesh) else net


def _jit(step: TrainStep, mesh: Mesh, shardings: TrainState) -> Any:
    """``(state, batch, seed) -> (state, metrics)``; the new state takes the old one's memory."""
    everywhere = parallel.replicated_sharding(mesh)
    return jax.jit(
        step,
        in_shardings=(shardings, parallel.batch_sharding(mesh), everywhere),
        out_shardings=(shardings, everywhere),
        compiler_options=convolution_options(mesh.devices.flat[0].platform),
        # The state is most of a step's memory; without donation, the old and the new one would be held at once.
        donate_argnums=(0,),
    )


def _check_rows(config: Config) -> None:
    """Batch normalisation compares the examples that pass through the network together."""
    rows = config.data.batch_size // config.optimizer.accumulate
    groups = config.model.batch_norm_groups
    if rows == 1:
        part = f" / optimizer.accumulate={config.optimizer.accumulate}" if config.optimizer.accumulate > 1 else ""
        raise UserError(
            f"data.batch_size={config.data.batch_size}{part} passes a single example at a time through the network, "
            "and batch normalisation needs at least 2 to compare. Give data.batch_size=2 or more, e.g. 32."
        )
    if rows % groups:
        raise UserError(
            f"model.batch_norm_groups={groups} does not divide the {rows} examples that pass through the network "
            "together (data.batch_size / optimizer.accumulate); choose a divisor."
        )
    if rows == groups > 1:
        raise UserError(
            f"model.batch_norm_groups={groups} puts each of the {rows} examples that pass through the network together "
            "(data.batch_size / optimizer.accumulate) into a group of its own, and batch normalisation needs at least "
            f"2 to compare: all embeddings of a step would be equal. Choose a divisor of {rows} that is at most "
            f"{rows // 2}."
        )


def _check_pairs(config: Config) -> None:
    """Losses over pairs need several utterances of several speakers among the examples that they see together."""
    if not config.loss.pairs:
        return
    losses = f"loss.pairs={','.join(term.name for term in config.loss.pairs)}"
    each, parts = config.data.utterances_per_speaker, config.optimizer.accumulate
    if each < 2:
        drawn = "data.sampling=speaker and " if config.data.speaker_exponent is None else ""
        raise UserError(
            f"{losses} compares utterances of the same speaker, and a batch holds one of each: set "
            f"{drawn}data.utterances_per_speaker=2 or more."
        )
    if config.data.batch_size % (each * parts) or config.data.batch_size < 2 * each * parts:
        per_part = f" and optimizer.accumulate={parts}" if parts > 1 else ""
        together = "in each part of a batch" if parts > 1 else "in a batch"
        raise UserError(
            f"{losses} compares speakers, and needs at least two of them with all their utterances {together}: with "
            f"data.utterances_per_speaker={each}{per_part}, data.batch_size must be a multiple of {each * parts} and "
            f"at least {2 * each * parts}, not {config.data.batch_size}."
        )


def _abstract_batch(config: Config, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    rows, bands = config.data.batch_size, config.fbank.num_features
    context = config.augment.context_frames if config.augment.rooms else 0
    frames = context + config.data.crop_frames
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "fbank": ((rows, frames, bands), np.float16),
        "num_frames": ((rows,), np.int32),
        "speaker": ((rows,), np.int32),
        "example": ((rows,), np.uint32),
    }
    if config.augment.noise:
        shapes["noise"] = ((rows, frames, bands), np.float16)
    if config.augment.rooms:
        shapes["decay"] = ((rows, context + 1, bands), np.float16)
    split = parallel.batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct(shape, dtype, sharding=split) for name, (shape, dtype) in shapes.items()}
