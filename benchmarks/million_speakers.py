"""Trains one step with as many speakers as a machine holds, on virtual devices, beside the usual one-hot form.

    python benchmarks/million_speakers.py [--classes 1000000] [--devices 8] [--chunk 4096] [--no-run]

The head (3 sub-centres, embeddings of 256) is sharded over all devices; the encoder is tiny. First the script prints
how much memory each form needs by the compiler's count, parameters and optimizer state included: the usual one-hot form
on one device, the sharded dense form, and the sharded form in chunks. Then it does one step of the last form and prints
the peak memory of the process. Virtual devices share one machine's memory, so the figures add up all devices.
"""

import argparse
import os
import resource
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--classes", type=int, default=1_000_000)
parser.add_argument("--batch", type=int, default=1_024)
parser.add_argument("--devices", type=int, default=8)
parser.add_argument("--chunk", type=int, default=4_096)
parser.add_argument("--no-run", action="store_true", help="only ask the compiler")
arguments = parser.parse_args()
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={arguments.devices}"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from compiled_memory import memory_of
from jax import Array, lax

from mqmha_jax import parallel
from mqmha_jax.config import Config, DataConfig, LossConfig, MeshConfig, ModelConfig, OptimizerConfig, TrainConfig, part
from mqmha_jax.models import unit_length
from mqmha_jax.train.build import Training, build_training

SUB_CENTRES, DIM = 3, 256


def config(chunk: int) -> Config:
    """Makes a configuration with a head of the wanted size and a tiny encoder."""
    return Config(
        data=DataConfig(crop_frames=16, batch_size=arguments.batch),
        model=ModelConfig(
            encoder=part("tdnn", channels=8, final_channels=8, kernel_sizes=[1, 1], dilations=[1, 1]),
            pooling=part("tstp"),
            embedding_dim=DIM,
        ),
        loss=LossConfig(sub_centres=SUB_CENTRES, top_k=5),
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.1, final_learning_rate=0.1, schedule="constant"),
        train=TrainConfig(steps=10),
        mesh=MeshConfig(data=1, model=-1, class_chunk=chunk),
    )


def training(chunk: int) -> Training:
    """Builds the run's computation, sharded over all devices."""
    chosen = config(chunk)
    return build_training(chosen, num_speakers=arguments.classes, mesh=parallel.device_mesh(chosen.mesh))


def one_hot_step(prototypes: Array, momentum: Array, embedding: Array, speaker: Array) -> tuple[Array, Array]:
    """Makes a step in the usual form: a maximum over [B, C, K], one-hot targets and negatives, the same optimizer."""

    def loss(prototypes: Array) -> Array:
        unit, prototypes = unit_length(embedding), unit_length(prototypes)
        cosine = jnp.einsum("be,cke->bck", unit, prototypes, precision=lax.Precision.HIGHEST).max(axis=2)
        target = jax.nn.one_hot(speaker, arguments.classes)
        _, nearest = lax.top_k(lax.stop_gradient(cosine - 2 * target), 5)
        penalised = jax.nn.one_hot(nearest, arguments.classes).sum(axis=1)
        logits = 32 * (cosine - 0.2 * target + 0.06 * penalised)
        return -(jax.nn.log_softmax(logits) * target).sum(axis=1).mean()

    momentum = 0.9 * momentum + jax.grad(loss)(prototypes) + 1e-4 * prototypes
    return prototypes - 0.1 * momentum, momentum


def gigabytes(compiled: jax.stages.Compiled, devices: int) -> str:
    """Returns the memory of a program's arguments (the state) and temporaries over all devices, in 10^9 bytes."""
    memory = memory_of(compiled)
    state, temporary = (x * devices / 1e9 for x in (memory.argument_size_in_bytes, memory.temp_size_in_bytes))
    return f"state {state:6.2f} GB + temporaries {temporary:6.2f} GB = {state + temporary:6.2f} GB"


def ask_the_compiler() -> None:
    """Prints one line per form."""
    array, batch = jax.ShapeDtypeStruct, arguments.batch
    prototypes = array((arguments.classes, SUB_CENTRES, DIM), jnp.float32)
    naive = jax.jit(one_hot_step, donate_argnums=(0, 1)).lower(
        prototypes, prototypes, array((batch, DIM), jnp.float32), array((batch,), jnp.int32)
    )
    print(f"one-hot, one device          {gigabytes(naive.compile(), 1)}")
    print(f"sharded, dense               {gigabytes(training(0).lower().compile(), arguments.devices)}")
    chunked = training(arguments.chunk).lower().compile()
    print(f"sharded, chunks of <= {arguments.chunk:<6,} {gigabytes(chunked, arguments.devices)}")


def do_one_step() -> None:
    """Does one step and prints its time and the peak memory of the process."""
    run = training(arguments.chunk)
    seed = parallel.place_seed(0, run.mesh)
    state = run.init(seed)
    rng = np.random.default_rng(0)
    batch = {
        "fbank": rng.normal(size=run.batch["fbank"].shape).astype(np.float16),
        "num_frames": np.full(arguments.batch, 16, np.int32),
        "speaker": rng.integers(0, arguments.classes, arguments.batch).astype(np.int32),
        "example": np.arange(arguments.batch, dtype=np.uint32),
    }
    placed = parallel.place_batch(batch, run.mesh)
    start = time.perf_counter()
    state, metrics = jax.block_until_ready(run.step(state, placed, seed))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"one step, compiled and done in {seconds:.0f} s: loss {metrics['loss']:.3f}; peak memory {peak:.2f} GB")


rows = training(arguments.chunk).state.params["head"]["prototypes"].shape[0]
print(
    f"C={arguments.classes:,} ({rows:,} rows) K={SUB_CENTRES} E={DIM} B={arguments.batch:,}, "
    f"{arguments.devices} devices, jax {jax.__version__}; "
    f"prototypes {rows * SUB_CENTRES * DIM * 4 / 1e9:.2f} GB, [B,C] {arguments.batch * rows * 4 / 1e9:.2f} GB"
)
ask_the_compiler()
if not arguments.no_run:
    do_one_step()
