"""Compares the whole train step with PyTorch's: utterances a second, memory, seconds to the first step.

    python benchmarks/train_step.py --torch-python TORCH_ENVIRONMENT/bin/python             # a small batch on a CPU
    python benchmarks/train_step.py --batch-sizes 64,256,1024 --dtype bfloat16 --compile default --steps 30
    python benchmarks/train_step.py --check --classes 500                                   # do both compute the same?
    python benchmarks/train_step.py --operations 2                                          # where a CPU's time goes
    python benchmarks/train_step.py --config laptop --batch-sizes 96 --classes 627          # the laptop's
    python benchmarks/train_step.py --encoder resnet101                                     # ours alone
    python benchmarks/train_step.py --beside ../before                                      # what did a change bring?

Both have the network, loss, optimizer and SpecAugment of a configuration, by default ResNet34, MQMHA, 3 sub-centres and
the inter-topK penalty. Ours is the package's own step (``jax_train_step.py``); the peer is idiomatic PyTorch
(``torch_train_step.py``; it needs torch, numpy and click). Every contender is a separate process on the same device,
and they take turns. Peak memory is that of the device, on a CPU that of the whole process.

FLOPs for both sides come from XLA's ``cost_analysis`` of our step before compilation. The peak is the faster of the two
libraries' products of square matrices on the device. Appends the result to results/train_step.jsonl.
"""

import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from jax_train_step import step_config
from record import keep
from train_step_size import StepSize, size_options
from turns import CHECKOUT, HUGE_PAGES, Contender, ContenderError, rotate, with_package_of

from mqmha_jax.config_io import to_dict

HERE = Path(__file__).parent
OURS, BESIDE = "mqmha_jax", "beside"
_WITH_PEER = ("resnet34", "tdnn")  # encoders of torch_speaker_net.py
_UNMASKED = ("spec_augment.num_time_masks=0", "spec_augment.num_frequency_masks=0")
_MATMUL_SIZE = {"cpu": 2048, "other": 8192}
_TOLERANCES = (
    2e-5,
    1e-3,
)  # relative: of the first float32 loss, and of the loss after an update, which rounding moves more
# The first step always compiles, whatever the cache holds; JAX must leave memory of a shared GPU to the others.
_ENVIRONMENT = {
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "PYTHONPATH": str(HERE.parent),
}
_ON_CPU = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


@click.command(context_settings={"show_default": True})
@size_options(one_batch=False)
@click.option("--batch-sizes", default="8", help="Batch sizes, separated by commas.")
@click.option("--config", default="voxceleb_resnet34_mqmha", help="Name or path of a configuration.")
@click.option("--encoder", help=f"Another encoder for it; {' and '.join(_WITH_PEER)} have a peer.")
@click.option("--spec-augment/--no-spec-augment", default=True, help="Mask as the configuration says, or nothing.")
@click.option(
    "--torch-python",
    type=click.Path(exists=True, dir_okay=False),
    default=sys.executable,
    help="An interpreter that has torch, numpy and click.",
)
@click.option(
    "--compile",
    "compile_modes",
    multiple=True,
    type=click.Choice(["default", "reduce-overhead", "max-autotune"]),
    help="Also measure the peer with torch.compile in this mode; repeatable.",
)
@click.option(
    "--layout",
    "layouts",
    multiple=True,
    type=click.Choice(["channels_last", "contiguous"]),
    default=["channels_last"],
    help="Memory layout of the peer's maps; repeatable.",
)
@click.option("--beside", type=CHECKOUT, help="Also measure another checkout of this project.")
@click.option(
    "--huge-pages/--no-huge-pages", default=True, help="Huge pages for all contenders, as 'mqmha train' asks for."
)
@click.option("--threads", type=click.IntRange(0), default=0, help="Threads of the peer on a CPU; 0: torch decides.")
@click.option("--restarts", type=click.IntRange(1), default=1, help="Times that all contenders start anew.")
@click.option("--rounds", type=click.IntRange(1), default=5, help="Turns of each contender after a start.")
@click.option("--steps", type=click.IntRange(1), default=2, help="Steps per turn.")
@click.option("--operations", type=click.IntRange(0), default=0, help="Profile this many steps, on a CPU.")
@click.option("--check", is_flag=True, help="Compare losses and parameters from the same start, on the CPU.")
def main(
    batch_sizes: str,
    config: str,
    encoder: str | None,
    spec_augment: bool,
    torch_python: str,
    compile_modes: tuple[str, ...],
    layouts: tuple[str, ...],
    beside: Path | None,
    huge_pages: bool,
    threads: int,
    restarts: int,
    rounds: int,
    steps: int,
    operations: int,
    check: bool,
    **size: Any,
) -> None:
    """Measure, print and record."""
    sizes = [StepSize(batch_size, **size) for batch_size in _numbers(batch_sizes)]
    overrides = [f"model.encoder={encoder}"] if encoder else []
    if check or not spec_augment:  # both draw stripes of their own
        overrides += _UNMASKED
    ours = [sys.executable, str(HERE / "jax_train_step.py"), f"--config={config}"]
    ours += [f"--override={override}" for override in overrides]
    settings = to_dict(step_config(sizes[0], config, overrides))
    encoder = settings["model"]["encoder"]["name"]
    if encoder == "tdnn":
        layouts = ("contiguous",)  # no maps over time and frequency, which channels_last concerns
    peers = {}
    for layout in layouts:
        peer = [torch_python, str(HERE / "torch_train_step.py"), f"--threads={threads}", f"--layout={layout}"]
        peers[f"torch {layout}"] = peer = [*peer, f"--settings={json.dumps(settings)}"]
        peers |= {f"torch {layout}, compile {mode}": [*peer, f"--compile={mode}"] for mode in compile_modes}
    commands = {OURS: ours}
    if beside:
        commands[f"{OURS}, {BESIDE}"] = with_package_of(beside, ours)
    if encoder in _WITH_PEER:
        commands |= peers
    elif check:
        raise click.UsageError(f"--check needs a peer; {' and '.join(_WITH_PEER)} have one, {encoder} has none.")
    try:
        for step_size in sizes:
            if check:
                _check(step_size, commands[OURS], peers[f"torch {layouts[0]}"])
                continue
            environment = _ENVIRONMENT | (HUGE_PAGES if huge_pages else {})
            figures = _measure(
                step_size,
                commands,
                environment,
                restarts=restarts,
                rounds=rounds,
                steps=steps,
                operations=operations,
            )
            _show(step_size, figures)
            described = {"config": config, "encoder": encoder, "spec_augment": settings["spec_augment"]}
            keep("train_step", {**described, "huge_pages": huge_pages, **step_size._asdict(), "contenders": figures})
    except ContenderError as error:
        raise click.ClickException(f"A contender {error}") from error


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(
            f"{text!r} is not a list of batch sizes; write e.g. 8,16,32.", param_hint="--batch-sizes"
        )
    return numbers


def _measure(
    size: StepSize,
    commands: dict[str, list[str]],
    environment: dict[str, str],
    *,
    restarts: int,
    rounds: int,
    steps: int,
    operations: int,
) -> dict[str, dict[str, Any]]:
    """Lets the contenders take turns, in new processes at each restart; each compiles alone."""
    figures: dict[str, dict[str, Any]] = {}
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for start in range(restarts):
        with ExitStack() as stack:
            running: dict[str, Contender] = {}
            for name in rotate([name for name in commands if "failed" not in figures.get(name, {})], start):
                contender = stack.enter_context(Contender([*commands[name], *size.arguments()], environment))
                try:
                    figures.setdefault(name, contender.answer())
                    contender.ask("steps", 1)  # warm-up: the second step may still allocate
                except ContenderError as error:
                    figures[name] = {"failed": str(error)}
                    continue
                running[name] = contender
            for number in range(rounds):
                for name in rotate([*running], number):
                    # Not timed: on a virtual machine the first step of a turn spends more time in the kernel, probably
                    # because the host takes back memory that a waiting program has freed (docs/performance.md).
                    running[name].ask("steps", 1)
                    turns[name].append(running[name].ask("steps", steps))
            if start == restarts - 1:
                for name, contender in running.items():
                    figures[name] |= _describe(size, figures[name], contender, turns[name], operations)
    return figures


def _describe(
    size: StepSize, opening: dict[str, Any], contender: Contender, turns: list[dict[str, Any]], operations: int
) -> dict[str, Any]:
    """The figures of a contender's turns, the speed of its matrix products, and its operations."""
    matmul_size = _MATMUL_SIZE["cpu" if opening["device"].startswith("cpu") else "other"]
    seconds = [turn["seconds_per_step"] for turn in turns]
    figures = {
        "seconds_per_step": [round(one, 5) for one in seconds],
        "utterances_per_second": size.batch_size / statistics.median(seconds),
        "peak_bytes": turns[-1]["peak_bytes"],
        "matmul_flops_per_second": contender.ask("matmul", matmul_size)["flops_per_second"],
    }
    return figures | ({"operation_seconds": contender.ask("operations", operations)} if operations else {})


def _show(size: StepSize, figures: dict[str, dict[str, Any]]) -> None:
    measured = {name: figure for name, figure in figures.items() if "failed" not in figure}
    ours = measured.get(OURS)
    click.echo(f"\nbatch {size.batch_size}, {size.frames} frames of {size.bins}, {size.classes} classes, {size.dtype}")
    for name in figures.keys() - measured.keys():
        click.echo(f"{name}: {figures[name]['failed']}")
    if not ours:
        return
    flops = ours["flops_per_step"] / size.batch_size
    peak = max(figure["matmul_flops_per_second"] for figure in measured.values())
    click.echo(
        f"{ours['device']}; {flops / 1e9:.3g} GFLOP per utterance; matmul peak {peak / 1e12:.3g} TFLOP/s; "
        f"{ours['parameters']:,} parameters"
    )
    click.echo(f"{'':40} utterances/s   of ours   of peak   peak memory   first step")
    for name, figure in measured.items():
        speed = figure["utterances_per_second"]
        click.echo(
            f"{name:40} {speed:12.2f} {speed / ours['utterances_per_second']:9.2f} {speed * flops / peak:9.1%} "
            f"{figure['peak_bytes'] / 1e9:10.2f} GB {figure['first_step_seconds']:10.1f} s"
        )
    for name, figure in measured.items():
        seconds = figure.get("operation_seconds", {})
        for kind in sorted(seconds, key=seconds.__getitem__, reverse=True):
            share = seconds[kind] / sum(seconds.values())
            click.echo(f"{name:40} {kind:34} {seconds[kind] * 1e3:9.0f} ms {share:7.1%}")


def _check(size: StepSize, ours: list[str], peer: list[str]) -> None:
    """Checks that both sides compute the same loss from the same parameters, before and after an update."""
    with tempfile.TemporaryDirectory() as folder:
        parameters = f"--parameters={Path(folder) / 'parameters.npz'}"
        answers = []
        for command in (ours, peer):  # ours writes the parameters that the peer reads
            with Contender([*command, parameters, *size.arguments()], _ENVIRONMENT | _ON_CPU) as contender:
                opening = contender.answer()
                answers.append((opening["parameters"], [opening["first_loss"], *contender.ask("steps", 1)["losses"]]))
    (our_number, our_losses), (peer_number, peer_losses) = answers
    differences = [abs(a - b) / abs(b) for a, b in zip(our_losses, peer_losses, strict=True)]
    click.echo(f"batch {size.batch_size}: {our_number:,} and {peer_number:,} parameters")
    for a, b, difference in zip(our_losses, peer_losses, differences, strict=True):
        click.echo(f"loss {a:.6f} and {b:.6f}, {difference:.1e} apart")
    near = all(difference <= allowed for difference, allowed in zip(differences, _TOLERANCES, strict=True))
    if our_number != peer_number or not near:
        raise click.ClickException("The two do not compute the same; their speeds cannot be compared.")


if __name__ == "__main__":
    main()
