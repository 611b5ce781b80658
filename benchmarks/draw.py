"""Draws the picture of docs/performance.md from the newest records in results/.

    python benchmarks/draw.py docs/performance.png

The picture shows how many times faster each part is than its alternative; where the time of a step goes on a CPU and,
by the TPU's compiler, on a TPU; and how much memory the head needs. It leaves out benchmarks without a record.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from record import read_records

from mqmha_jax.evaluation.report.drawing import GRID, INK, draw_legend, new_figure, style_axes, system_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = dict[str, Any]
OURS = "mqmha_jax"


@click.command()
@click.argument("picture", type=click.Path(dir_okay=False, path_type=Path))
def main(picture: Path) -> None:
    """Draw PICTURE."""
    figure = new_figure(13, 9)
    panels = figure.subplots(2, 2)
    for axes, draw in zip(panels.flat, (draw_ratios, draw_operations, draw_chip, draw_head_memory), strict=True):
        draw(axes)
        style_axes(axes)
    figure.savefig(picture)


def newest(name: str, having: Callable[[Record], bool] = bool, **wanted: Any) -> Record | None:
    """Reads the last record of a benchmark that has these values, and for which ``having`` is true."""
    records = [record for record in read_records(name) if wanted.items() <= record.items() and having(record)]
    return records[-1] if records else None


def ratios() -> Iterator[tuple[str, float]]:
    """Yields the name of each comparison and how many times faster ours is."""
    for config, what in (("voxceleb_resnet34_mqmha", "ResNet34"), ("laptop", "laptop"), ("demo", "demo")):
        if step := newest("train_step", config=config):
            device = step["contenders"][OURS]["device"]
            speed = {name: own.get("utterances_per_second") for name, own in step["contenders"].items()}
            for name in speed:
                if name.startswith("torch") and speed[name]:
                    yield f"train step, {what}, {device}: {name}", speed[OURS] / speed[name]
    if pooling := newest("pooling", frames=25):
        yield from _against("MQMHA", pooling["contenders"], "ours")
    for classes in (17_982, 200_000, 1_000_000):
        if head := newest("head", kind="race", classes=classes):
            yield from _against(f"head, {classes:,} classes", head["contenders"], "ours, dense")
    for peer, name in (("kaldi", "kaldi-native-fbank"), ("torchaudio", "torchaudio")):
        measured = [record["one core"] for record in read_records("fbank") if peer in record["one core"]]
        if measured:
            one_core = measured[-1]
            faster = one_core["jitted"]["hours_per_processor_second"] / one_core[peer]["hours_per_processor_second"]
            yield f"filterbank, one core: {name}", faster
    if scoring := newest("scoring"):
        for kind, name in (("cosine", "10 M cosines"), ("as_norm", "AS-norm"), ("eer", "EER of 10 M")):
            for peer, what in (("loop", "a loop"), ("numpy", "NumPy")):
                own = scoring[f"{kind}_ours"]["seconds"]
                yield f"{name}: {what}", scoring[f"{kind}_{peer}"]["seconds"] / own


def _against(what: str, contenders: dict[str, Record], ours: str) -> Iterator[tuple[str, float]]:
    for name, row in contenders.items():
        if name.startswith("torch") and "seconds" in row:
            yield f"{what}: {name}", row["seconds"] / contenders[ours]["seconds"]


def draw_ratios(axes: "Axes") -> None:
    """Draws a bar for each comparison, from 1 to the ratio."""
    rows = list(ratios())[::-1]
    values = [ratio for _, ratio in rows]
    colours = [system_colour(0 if ratio >= 1 else 1) for ratio in values]
    axes.barh(range(len(rows)), [ratio - 1 for ratio in values], left=1, color=colours)
    for place, ratio in enumerate(values):
        axes.text(
            ratio,
            place,
            f" {ratio:.2f} " if ratio < 10 else f" {ratio:.0f} ",
            va="center",
            ha="left" if ratio >= 1 else "right",
            fontsize="small",
        )
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(min(0.2, *values) / 1.5, max(values) * 3)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize="small")
    axes.set_xlabel("times as fast as the peer (blue: faster)")


def draw_operations(axes: "Axes") -> None:
    """Draws the processor time of a step by kind of operation."""
    step = newest("train_step", _has_operations, encoder="resnet34")
    found = {} if step is None else {name: own.get("operation_seconds") for name, own in step["contenders"].items()}
    sides = {name: seconds for name, seconds in found.items() if seconds and not name.endswith("beside")}
    _draw_stacked(axes, sides, lambda seconds: seconds)
    axes.set_xlabel("seconds of a training step on a CPU, by operation")


def _has_operations(step: Record) -> bool:
    return "operation_seconds" in step["contenders"][OURS]


def draw_chip(axes: "Axes") -> None:
    """Draws the memory traffic of a step by stage, before and after folding."""
    programs = {name: newest("tpu_step", program=name, bins=80) for name in ("plain", "folded")}
    found = {name: record for name, record in programs.items() if record}
    _draw_stacked(axes, found, lambda record: {stage: own["memory_ms"] for stage, own in record["stages"].items()})
    for place, record in enumerate(found.values()):
        axes.plot([record["compute_ms"]], [place], "D", color=INK, markeredgecolor="white", markersize=9)
    axes.set_xlabel("ms of memory traffic of a step on a v5e chip, by stage (diamond: arithmetic at the peak)")


def draw_head_memory(axes: "Axes") -> None:
    """Draws the temporary memory over the number of classes."""
    memory = newest("head", kind="memory")
    sizes = [] if memory is None else [row for row in memory["sizes"] if row["batch_size"] == 512]
    handles, names = [], ("one-hot", "dense, aam", "dense", "chunked, aam", "chunked")
    for i, name in enumerate(names):
        gigabytes = [row["temporary_bytes"][name] / 1e9 for row in sizes]
        handles += axes.plot([row["classes"] for row in sizes], gigabytes, "o-", color=system_colour(i))
    axes.set(xscale="log", yscale="log", xlabel="classes", ylabel="GB of temporary memory, 512 utterances")
    axes.grid(True, color=GRID, linewidth=0.6)
    draw_legend(axes, handles, names)


def _draw_stacked(axes: "Axes", rows: dict[str, Any], parts_of: Callable[[Any], dict[str, float]]) -> None:
    kinds = list(dict.fromkeys(kind for row in rows.values() for kind, size in parts_of(row).items() if size))
    ends = [0.0] * len(rows)
    handles = []
    for i, kind in enumerate(kinds):
        sizes = [parts_of(row).get(kind, 0.0) for row in rows.values()]
        # There are seven colours; hatching distinguishes their second use from the first.
        hatch = "" if i < 7 else "////"
        handles.append(
            axes.barh(range(len(rows)), sizes, left=ends, color=system_colour(i), hatch=hatch, edgecolor="white")
        )
        ends = [end + size for end, size in zip(ends, sizes, strict=True)]
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.legend(
        handles,
        kinds,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=3,
        fontsize="x-small",
        frameon=False,
        columnspacing=1,
    )


if __name__ == "__main__":
    main()
