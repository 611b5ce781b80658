"""Draws the pictures of a study: error rates by factor, differences from the reference, and training curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mqmha_jax.atomic import replacing
from mqmha_jax.evaluation.report.drawing import (
    GRID,
    INK,
    draw_legend,
    new_figure,
    plain_text,
    style_axes,
    system_colour,
)
from mqmha_jax.study.comparisons import Comparison
from mqmha_jax.study.effects import EER, Measured
from mqmha_jax.study.spec import Factor, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "os^DvP*Xd<"
_LINES = ("-", "--", "-.", ":")
Curves = Mapping[str, Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]]

# These measurements of the log concern the machine or the schedules, not learning.
_NOT_DRAWN = {
    "step",
    "time",
    "utterances_per_second",
    "data_wait",
    "device_wait",
    "host_memory_gb",
    "device_memory_gb",
    "learning_rate",
    "margin",
    "penalty",
    "skipped",
    "skipped_in_row",
}
_FIRST = ("loss", "accuracy", "target_cosine", "top_negative_cosine", "mean_negative_cosine")


@plain_text()
def draw_factor(path: Path, study: Study, factor: Factor, measured: Measured, cells: Sequence[str]) -> None:
    """Draws the EER over the levels of a factor: seeds as points, means with their intervals.

    Args:
      path: PNG file to write.
      study: study that defines the levels.
      factor: factor along the axis; cells that differ in other factors have different colours.
      measured: metrics on the deciding list.
      cells: finished cells, without controls.
    """
    levels = list(factor.levels)
    contexts: dict[str, list[str]] = {}
    for cell in cells:
        rest = [level for name, level in study.levels(cell).items() if name != factor.name]
        contexts.setdefault(", ".join(rest), []).append(cell)
    figure = new_figure(max(4.5, 1.2 + 0.75 * len(levels) + 0.1 * len(contexts)), 4.2 + 0.18 * len(contexts))
    axes = figure.subplots()
    handles = []
    for i, own in enumerate(contexts.values()):
        offset = 0.5 * ((i + 0.5) / len(contexts) - 0.5)
        for cell in own:
            place = levels.index(study.levels(cell)[factor.name]) + offset
            _draw_cell(axes, place, measured, cell, i)
        handles.append(axes.plot([], [], _MARKERS[i % len(_MARKERS)], color=system_colour(i))[0])
    if len(contexts) > 1:
        draw_legend(axes, handles, list(contexts))
    axes.set_xticks(range(len(levels)), levels, rotation=30 if len(levels) > 5 else 0)
    axes.set(xlabel=factor.name, ylabel=f"EER (%), {measured.name}", xlim=(-0.6, len(levels) - 0.4))
    style_axes(axes)
    axes.grid(True, axis="y", color=GRID, linewidth=0.6)
    with replacing(path) as temporary:
        figure.savefig(temporary)


@plain_text()
def draw_differences(path: Path, comparisons: Sequence[Comparison], reference: str) -> None:
    """Draws the difference of each cell from the reference with its interval; significant points are filled.

    Args:
      path: PNG file to write.
      comparisons: comparisons of cells with the reference.
      reference: name of the reference.
    """
    figure = new_figure(7.0, 1.1 + 0.32 * len(comparisons))
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=1)
    for place, comparison in enumerate(comparisons):
        sure = comparison.verdict != "not distinguishable"
        low, high = (100 * end for end in comparison.eer.interval)
        axes.plot([low, high], [place, place], color=system_colour(0), linewidth=2)
        face = system_colour(0) if sure else "white"
        axes.plot(100 * comparison.eer.difference, place, "o", color=system_colour(0), markerfacecolor=face)
    axes.set_yticks(range(len(comparisons)), [comparison.plus[0] for comparison in comparisons])
    axes.set(ylim=(len(comparisons) - 0.5, -0.5), xlabel=f"EER less that of {reference} (points; left is better)")
    style_axes(axes)
    axes.grid(True, axis="x", color=GRID, linewidth=0.6)
    with replacing(path) as temporary:
        figure.savefig(temporary)


@plain_text()
def draw_training(path: Path, curves: Curves) -> None:
    """Draws every measurement of training over the steps, with a line for each cell: the mean over its seeds.

    Args:
      path: PNG file to write.
      curves: measurement -> cell -> steps and values of each run.
    """
    names = [name for name in _FIRST if name in curves]
    names += sorted(name for name in curves if name not in _FIRST and name not in _NOT_DRAWN)
    cells = list(dict.fromkeys(cell for name in names for cell in curves[name]))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(3.6 * columns, 2.5 * rows + 0.25 * -(-len(cells) // 3) + 0.2)
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axes, name in zip(panels, names, strict=False):
        for cell, runs in curves[name].items():
            i = cells.index(cell)
            steps, mean = _over_seeds(runs)
            axes.plot(steps, mean, _LINES[i // 7 % len(_LINES)], color=system_colour(i), linewidth=1.3)
        axes.set_title(name.replace("_", " "), loc="left", fontsize="small")
        axes.set_xlabel("step", fontsize="small")
        style_axes(axes)
        axes.grid(True, color=GRID, linewidth=0.5)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    styles = [(_LINES[i // 7 % len(_LINES)], system_colour(i)) for i in range(len(cells))]
    handles = [panels[0].plot([], [], line, color=colour)[0] for line, colour in styles]
    figure.legend(handles, cells, loc="outside upper left", ncols=3, fontsize="small", frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def _draw_cell(axes: "Axes", place: float, measured: Measured, cell: str, i: int) -> None:
    colour, marker = system_colour(i), _MARKERS[i % len(_MARKERS)]
    seeds = 100 * measured.estimates[cell][:, EER]
    low, high = 100 * measured.interval(cell)[EER]
    axes.plot([place, place], [low, high], color=colour, linewidth=2, alpha=0.5)
    axes.plot(np.full(len(seeds), place), seeds, ".", color=INK, markersize=5, zorder=3)
    axes.plot(place, seeds.mean(), marker, color=colour, markersize=7)


def _over_seeds(runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Averages over the steps that all runs have; the mean would jump where an unfinished run ends."""
    steps = runs[0][0]
    for other, _ in runs[1:]:
        steps = np.intersect1d(steps, other)
    return steps, np.mean([values[np.isin(own, steps)] for own, values in runs], axis=0)
