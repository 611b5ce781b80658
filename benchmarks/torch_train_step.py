"""A train step in PyTorch, the peer of ``train_step.py``, in a separate process (see ``turns.py``).

    echo "steps 5" | python benchmarks/torch_train_step.py --settings JSON --batch-size 16 [--compile default]

Needs torch, numpy and click, but not our package. On a GPU it uses channels_last, autocast to bfloat16 with
``--dtype bfloat16``, and the fused optimizer; pooling, cosines and loss stay float32, as in ours.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

import click
import numpy as np
import torch
from torch import nn
from torch_operations import operation_seconds
from torch_speaker_net import SpeakerTask, load_flax
from train_step_size import LEARNING_RATE, StepSize, random_batch, size_options
from turns import peak_process_bytes, take_turns

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@click.command(context_settings={"show_default": True})
@size_options()
@click.option("--settings", required=True, help="Our configuration, as JSON.")
@click.option(
    "--compile",
    "compile_mode",
    type=click.Choice(["no", "default", "reduce-overhead", "max-autotune"]),
    default="no",
    help="Mode of torch.compile.",
)
@click.option("--layout", type=click.Choice(list(LAYOUTS)), default="channels_last", help="Memory layout of the maps.")
@click.option("--parameters", type=click.Path(exists=True, dir_okay=False), help="Our parameters to start from.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Threads on a CPU; 0: torch decides.")
def main(settings: str, compile_mode: str, layout: str, parameters: str | None, threads: int, **size: Any) -> None:
    """Make the first step, then take turns."""
    step_size, config = StepSize(**size), json.loads(settings)
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = SpeakerTask(config, step_size.classes, step_size.bins, getattr(torch, step_size.dtype), LAYOUTS[layout])
    if parameters:
        load_flax(task, np.load(parameters))
    task = task.to(device)
    optimizer, largest_norm = build_optimizer(task, config["optimizer"]), config["optimizer"]["max_gradient_norm"]
    batch = random_batch(step_size, config["data"]["utterances_per_speaker"])
    fbank = torch.from_numpy(batch["fbank"]).to(device)
    speaker = torch.from_numpy(batch["speaker"]).long().to(device)
    loss_of = task if compile_mode == "no" else torch.compile(task, mode=compile_mode)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(fbank, speaker)
        loss.backward()
        if largest_norm:
            nn.utils.clip_grad_norm_(task.parameters(), largest_norm)
        optimizer.step()
        return loss.detach()

    def steps(count: int) -> dict[str, object]:
        start = time.perf_counter()
        losses = [step() for _ in range(count)]
        last = losses[-1].item()  # waits for the device
        seconds = (time.perf_counter() - start) / count
        assert np.isfinite(last)
        peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else peak_process_bytes()
        return {"seconds_per_step": seconds, "losses": [loss.item() for loss in losses], "peak_bytes": peak}

    start = time.perf_counter()
    first_loss = step().item()
    opening = {
        "version": torch.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "first_step_seconds": time.perf_counter() - start,
        "first_loss": first_loss,
        "parameters": sum(parameter.numel() for parameter in task.parameters()),
    }

    def operations(count: int) -> dict[str, float]:
        return {kind: seconds / count for kind, seconds in operation_seconds(lambda: steps(count)).items()}

    def matmul(size: int) -> dict[str, float]:
        return matmul_speed(size, device, step_size.dtype)

    take_turns(opening, {"steps": steps, "matmul": matmul, "operations": operations})


def build_optimizer(task: nn.Module, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Builds SGD with Nesterov momentum, or AdamW; only kernels and prototypes decay."""
    kernels = [parameter for parameter in task.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in task.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": options["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    momentum = options["momentum"]
    if options["name"] == "adamw":
        return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(momentum, 0.999), fused=True)
    return torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=momentum, nesterov=True, fused=True)


def matmul_speed(size: int, device: torch.device, dtype: str) -> dict[str, float]:
    """Measures the FLOP/s of a square matrix product."""
    a = torch.randn(size, size, device=device, dtype=getattr(torch, dtype))
    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return {"flops_per_second": 2 * size**3 / float(np.median(seconds[1:]))}


if __name__ == "__main__":
    main()
