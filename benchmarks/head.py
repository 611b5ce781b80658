"""Measures head and loss with their gradient: memory by the compiler, time and peak memory by running.

    python benchmarks/head.py memory                                # compiles and runs nothing
    python benchmarks/head.py race --torch-python PATH_OF_A_PYTHON_WITH_TORCH
    python benchmarks/head.py race --classes 17982 --classes 200000 --classes 1000000 --torch-python ...

AM-softmax with three sub-centres and the inter-topK penalty: ours with all cosines at once (dense), ours with at most
4,096 classes at a time (chunked, ``mesh.class_chunk``), and a dense head in PyTorch; ``memory`` adds the usual one-hot
form. Contenders that do not fit into the free memory report it. Appends to ``benchmarks/results/head.jsonl``.
"""

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from compiled_memory import memory_of
from head_jax import FORMS, compile_form
from head_size import SUB_CENTRES, HeadSize
from race import race
from record import keep
from turns import CHECKOUT, with_package_of

HERE = Path(__file__).parent
OURS = "ours, dense"
TOLERANCE = 1e-4  # relative to the largest value, in float32
DIM = click.option("--embedding-dim", type=click.IntRange(1), default=256, help="E.")


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Measure head and loss."""


@main.command()
@click.option("--classes", type=click.IntRange(6), multiple=True, default=(17_982, 200_000, 1_000_000), help="C.")
@click.option("--batch-size", type=click.IntRange(1), multiple=True, default=(64, 512), help="B.")
@DIM
def memory(classes: tuple[int, ...], batch_size: tuple[int, ...], embedding_dim: int) -> None:
    """Print the gradient's temporary memory by form, C and B, without prototypes, their gradient and the batch."""
    click.echo(
        f"MB of temporaries, E={embedding_dim}, K={SUB_CENTRES}\n{'C':>10}{'B':>6}{'[B,C]':>9}{'prototypes':>12}"
    )
    click.echo(" " * 37 + "".join(f"{form:>14}" for form in FORMS))
    rows = []
    for size in (HeadSize(c, b, embedding_dim) for c in classes for b in batch_size):
        temporaries = {form: memory_of(compile_form(form, size)).temp_size_in_bytes for form in FORMS}
        own = f"{size.classes:10,}{size.batch_size:6}{size.classes * size.batch_size * 4 / 1e6:9.0f}"
        prototypes = size.classes * SUB_CENTRES * embedding_dim * 4
        click.echo(f"{own}{prototypes / 1e6:12.0f}" + "".join(f"{temporaries[form] / 1e6:14.1f}" for form in FORMS))
        rows.append({**size._asdict(), "temporary_bytes": temporaries})
    keep("head", {"kind": "memory", "sizes": rows})


@main.command("race")
@click.option("--classes", type=click.IntRange(6), multiple=True, default=(17_982,), help="C; repeatable.")
@click.option("--batch-size", type=click.IntRange(1), default=64, help="B.")
@DIM
@click.option(
    "--rounds", type=click.IntRange(1), default=3, help="Number of turns of each contender, each in a new process."
)
@click.option(
    "--milliseconds", type=click.IntRange(1), default=1000, help="Length of a turn; a turn has at least one call."
)
@click.option("--beside", type=CHECKOUT, help="Also measure another checkout of this project.")
@click.option("--torch-python", default=sys.executable, help="An interpreter that has PyTorch, NumPy and click.")
def race_command(
    classes: tuple[int, ...],
    batch_size: int,
    embedding_dim: int,
    rounds: int,
    milliseconds: int,
    beside: Path | None,
    torch_python: str,
) -> None:
    """Measure time and peak memory of the contenders, which must compute the same loss and gradients."""
    for size in (HeadSize(c, batch_size, embedding_dim) for c in classes):
        with tempfile.TemporaryDirectory() as folder:
            turns = [take_turn(size, Path(folder), torch_python, milliseconds, beside) for _ in range(rounds)]
            found = {name: take_medians([one[name] for one in turns]) for name in turns[0]}
            for name in found:
                if "seconds" in found[name]:
                    found[name]["largest_difference"] = check_difference(Path(folder), name)
        print_report(size, found)
        keep("head", {"kind": "race", **size._asdict(), "rounds": rounds, "contenders": found})


def take_turn(
    size: HeadSize, folder: Path, torch_python: str, milliseconds: int, beside: Path | None
) -> dict[str, dict[str, Any]]:
    """Runs one turn of each contender, alone in memory."""
    commands = {
        OURS: [sys.executable, str(HERE / "head_jax.py"), "dense"],
        "ours, chunked": [sys.executable, str(HERE / "head_jax.py"), "chunked"],
        "torch, dense": [torch_python, str(HERE / "head_torch.py")],
    }
    if beside:
        ours = [OURS, "ours, chunked"]
        commands |= {f"{name}, beside": with_package_of(beside, commands[name]) for name in ours}
    found: dict[str, Any] = {}
    for name, command in commands.items():
        own = {name: [*command, str(folder / f"{name}.npz"), *size.arguments()]}
        found |= race(own, rounds=1, milliseconds=milliseconds)
    return found


def take_medians(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the median of every measured number."""
    last = answers[-1]
    measured = {
        key: statistics.median(answer[key] for answer in answers)
        for key in last
        if all(isinstance(answer.get(key), int | float) for answer in answers)
    }
    return {**last, **measured}


def check_difference(folder: Path, name: str) -> float:
    """Returns the largest difference of loss and gradients from ours, relative to the largest value of each.

    Raises:
      click.ClickException: the difference is too large for rounding.
    """
    reference = folder / f"{OURS}.npz"
    ours, theirs = (
        np.load(reference if reference.exists() else folder / "ours, chunked.npz"),
        np.load(folder / f"{name}.npz"),
    )
    found = {key: float(np.abs(theirs[key] - ours[key]).max() / np.abs(ours[key]).max()) for key in ours}
    if max(found.values()) > TOLERANCE:
        raise click.ClickException(f"{name!r} differs from ours: {found}, relative to the largest value.")
    return max(found.values())


def print_report(size: HeadSize, found: dict[str, dict[str, Any]]) -> None:
    """Prints the table; memory is the peak of the whole process, or of the accelerator if there is one."""
    click.echo(
        f"\nC={size.classes:,} B={size.batch_size} E={size.embedding_dim} K={SUB_CENTRES} on {found[OURS]['device']}"
    )
    click.echo(f"{'':16}{'s':>9}{'peak GB':>10}{'compile, s':>12}{'difference':>12}")
    for name, row in found.items():
        if "seconds" not in row:
            click.echo(f"{name:16}  does not fit: needs about {row['needs_bytes'] / 1e9:.1f} GB")
            continue
        gigabytes = row["peak_bytes"] / 1e9
        compile_seconds = f"{row['compile_seconds']:12.1f}" if "compile_seconds" in row else f"{'-':>12}"
        click.echo(f"{name:16}{row['seconds']:9.3f}{gigabytes:10.2f}{compile_seconds}{row['largest_difference']:12.1e}")


if __name__ == "__main__":
    main()
