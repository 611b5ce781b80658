"""Runs the train step of ``train_step.py`` as the package does, in a separate process (see ``turns.py``).

    echo "steps 5" | python benchmarks/jax_train_step.py --batch-size 16 [--config laptop] [--override OPTION=VALUE]

``build_training`` builds the same computation from a configuration as ``mqmha train``, on one device.
"""

import time
from collections.abc import Sequence
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np
from jax_operations import operation_seconds
from train_step_size import LEARNING_RATE, StepSize, random_batch, size_options
from turns import peak_process_bytes, take_turns

from mqmha_jax import parallel
from mqmha_jax.config import Config
from mqmha_jax.config_io import load_config
from mqmha_jax.flops import count_flops
from mqmha_jax.runs.state import TrainState
from mqmha_jax.train.build import Training, build_training


@click.command(context_settings={"show_default": True})
@size_options()
@click.option("--config", default="voxceleb_resnet34_mqmha", help="Name or path of a configuration.")
@click.option("--override", "overrides", multiple=True, help="Option of the configuration, NAME=VALUE; repeatable.")
@click.option("--parameters", type=click.Path(dir_okay=False), help="Write the initial parameters to this .npz file.")
def main(config: str, overrides: tuple[str, ...], parameters: str | None, **size: Any) -> None:
    """Make the first step, then take turns."""
    step_size = StepSize(**size)
    resized = step_config(step_size, config, overrides)
    mesh = parallel.device_mesh(resized.mesh, jax.devices()[:1])
    training = build_training(resized, num_speakers=step_size.classes, mesh=mesh)
    seed = parallel.place_seed(resized.train.seed, mesh)
    state = training.init(seed)
    arrays: dict[str, Any] = flat_parameters(state, step_size.classes)
    if parameters:
        np.savez(parameters, **arrays)
    num_parameters = sum(array.size for array in arrays.values())
    del arrays
    batch = parallel.place_batch(random_batch(step_size, resized.data.utterances_per_speaker), mesh)

    def steps(count: int) -> dict[str, Any]:
        nonlocal state
        start = time.perf_counter()
        losses = []
        for _ in range(count):
            state, metrics = training.step(state, batch, seed)
            losses.append(metrics["loss"])
        jax.block_until_ready((state, losses))
        seconds = (time.perf_counter() - start) / count
        return {"seconds_per_step": seconds, "losses": [float(loss) for loss in losses], "peak_bytes": peak_bytes()}

    first = steps(1)
    opening = {
        "version": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "first_step_seconds": first["seconds_per_step"],
        "first_loss": first["losses"][0],
        "parameters": num_parameters,
        "flops_per_step": _flops(training),
    }

    def operations(count: int) -> dict[str, float]:
        seconds = operation_seconds(training.lower().compile().as_text() or "", lambda: steps(count))
        return {kind: value / count for kind, value in seconds.items()}

    def matmul(size: int) -> dict[str, float]:
        return matmul_speed(size, step_size.dtype)

    take_turns(opening, {"steps": steps, "matmul": matmul, "operations": operations})


def step_config(size: StepSize, config: str, overrides: Sequence[str]) -> Config:
    """Resizes an experiment; margin, penalty and learning rate have their full values from the first step."""
    resized = [
        f"data.batch_size={size.batch_size}",
        f"data.crop_frames={size.frames}",
        f"fbank.num_mel_bins={size.bins}",
        "fbank.use_energy=false",
        f"model.compute_dtype={size.dtype}",
        "loss.margin_start=0",
        "loss.margin_end=0",
        "optimizer.schedule=constant",
        "optimizer.warmup=0",
        f"optimizer.learning_rate={LEARNING_RATE}",
    ]
    return load_config(config, [*resized, *overrides])


def flat_parameters(state: TrainState, classes: int) -> dict[str, np.ndarray]:
    """Returns parameters by path, without the rows that pad the prototypes."""
    leaves = jax.tree_util.tree_leaves_with_path({**state.params["net"], "head": state.params["head"]})
    arrays = {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}
    return arrays | {"head/prototypes": arrays["head/prototypes"][:classes]}


def _flops(training: Training) -> float:
    """Counts the FLOPs of one step; on one CPU the gradients of kernels are loops of products."""
    return count_flops(training.step, training.state, training.batch, training.seed)


def peak_bytes() -> int:
    """Returns the peak memory of the device if it counts, else of the process."""
    statistics = jax.devices()[0].memory_stats()
    return statistics["peak_bytes_in_use"] if statistics else peak_process_bytes()


def matmul_speed(size: int, dtype: str) -> dict[str, float]:
    """Measures the FLOP/s of a square matrix product."""
    a = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    product = jax.jit(jnp.matmul)
    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        jax.block_until_ready(product(a, a))
        seconds.append(time.perf_counter() - start)
    return {"flops_per_second": 2 * size**3 / float(np.median(seconds[1:]))}


if __name__ == "__main__":
    main()
