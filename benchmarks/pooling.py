"""Compares MQMHA forward and backward: ours, a loop over heads and queries, and one einsum.

    python benchmarks/pooling.py --torch-python PATH_OF_A_PYTHON_WITH_TORCH
    python benchmarks/pooling.py --torch-python ... --frames 25 --frames 38 --frames 200 --compile

Frames are those of ResNet34: 25 come from 2 s, 38 from 3 s, with 2560 channels in 16 heads for 4 queries. The work is
the pooling and its gradients for frames and scorers; all contenders must compute the same statistics and gradients.
Only ours applies a mask. Appends the result to ``benchmarks/results/pooling.jsonl``.
"""

import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from race import race
from record import keep
from turns import CHECKOUT, with_package_of

HERE = Path(__file__).parent
OURS, LOOP = "ours", "torch, loop"
TOLERANCE = 1e-4  # of the largest value, in float32


@click.command(context_settings={"show_default": True})
@click.option(
    "--frames", type=click.IntRange(1), multiple=True, default=(25, 38), help="Frames per utterance; repeatable."
)
@click.option("--batch-size", type=click.IntRange(1), default=32, help="Number of utterances.")
@click.option(
    "--channels",
    type=click.IntRange(16),
    default=2560,
    help="Channels of a frame; a multiple of 16, the number of heads.",
)
@click.option("--restarts", type=click.IntRange(1), default=1, help="Times that all contenders start anew.")
@click.option("--rounds", type=click.IntRange(1), default=5, help="Number of turns of each contender after a start.")
@click.option("--milliseconds", type=click.IntRange(1), default=500, help="Length of a turn.")
@click.option("--torch-python", default=sys.executable, help="An interpreter that has PyTorch, NumPy and click.")
@click.option("--beside", type=CHECKOUT, help="Also measure another checkout of this project.")
@click.option("--compile", "compiled", is_flag=True, help="Also measure the PyTorch forms with torch.compile.")
def main(
    frames: tuple[int, ...],
    batch_size: int,
    channels: int,
    restarts: int,
    rounds: int,
    milliseconds: int,
    torch_python: str,
    beside: Path | None,
    compiled: bool,
) -> None:
    """Measure, compare, print and record."""
    if channels % 16:
        raise click.BadParameter(
            f"{channels} is not a multiple of 16, the number of heads; give e.g. 2560.", param_hint="--channels"
        )
    for count in frames:
        with tempfile.TemporaryDirectory() as folder:
            save_task(Path(folder), batch_size, count, channels)
            commands = contenders(folder, torch_python, compiled)
            if beside:
                name = f"{OURS}, beside"
                commands[name] = with_package_of(beside, [*commands[OURS][:-1], f"{name}.npz"])
            found = race(commands, restarts=restarts, rounds=rounds, milliseconds=milliseconds)
            differences = {name: difference(Path(folder), name) for name in commands}
        report(f"B={batch_size} t={count} D={channels} H=16 Q=4", found, differences)
        size = {"batch_size": batch_size, "frames": count, "channels": channels}
        rows = {name: row | {"largest_difference": differences[name]} for name, row in found.items()}
        keep(
            "pooling",
            {**size, "restarts": restarts, "rounds": rounds, "milliseconds": milliseconds, "contenders": rows},
        )


def save_task(folder: Path, batch_size: int, frames: int, channels: int) -> None:
    """Saves frames as they leave a ReLU, scorers, and the gradient of the statistics."""
    rng = np.random.default_rng(0)
    np.savez(
        folder / "task.npz",
        frames=np.maximum(rng.standard_normal((batch_size, frames, channels), np.float32), 0),
        scorers=rng.standard_normal((4, 16, channels // 16), np.float32) * np.float32((channels // 16) ** -0.5),
        gradient=rng.standard_normal((batch_size, 2 * channels * 4), np.float32),
    )


def contenders(folder: str, torch_python: str, compiled: bool) -> dict[str, list[str]]:
    """Returns the command of each contender, which writes NAME.npz into the folder."""

    def command(python: str, script: str, way: str, name: str, *options: str) -> list[str]:
        return [python, str(HERE / script), way, folder, f"{name}.npz", *options]

    found = {
        OURS: command(sys.executable, "pooling_jax.py", "ours", OURS),
        "jax, loop": command(sys.executable, "pooling_jax.py", "loop", "jax, loop"),
        LOOP: command(torch_python, "pooling_torch.py", "loop", LOOP),
        "torch, einsum": command(torch_python, "pooling_torch.py", "einsum", "torch, einsum"),
    }
    if compiled:
        for way in ("loop", "einsum"):
            name = f"torch, {way}, compiled"
            found[name] = command(torch_python, "pooling_torch.py", way, name, "--compile")
    return found


def difference(folder: Path, name: str) -> float:
    """Returns the largest difference from ours of statistics and gradients, relative to the largest value of each.

    Raises:
      click.ClickException: the difference is too large for rounding.
    """
    ours, theirs = np.load(folder / f"{OURS}.npz"), np.load(folder / f"{name}.npz")
    found = {key: float(np.abs(theirs[key] - ours[key]).max() / np.abs(ours[key]).max()) for key in ours}
    if max(found.values()) > TOLERANCE:
        raise click.ClickException(f"{name!r} differs from ours: {found}, relative to the largest value.")
    return max(found.values())


def report(size: str, found: dict[str, dict[str, float]], differences: dict[str, float]) -> None:
    """Prints the table."""
    click.echo(f"\n{size}, forward and backward on {found[OURS]['device']}; torch on {found[LOOP]['device']}")
    click.echo(f"{'':24}{'ms':>9}{'x loop':>8}{'first call, s':>15}{'difference':>12}")
    for name, row in found.items():
        click.echo(
            f"{name:24}{1000 * row['seconds']:9.2f}{found[LOOP]['seconds'] / row['seconds']:8.1f}"
            f"{row['first_seconds']:15.2f}{differences[name]:12.1e}"
        )


if __name__ == "__main__":
    main()
