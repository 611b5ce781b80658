"""Draws DET curves and score histograms on axes, in colours that colour-blind readers can distinguish."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy.special import ndtri

from mqmha_jax.evaluation.metrics.detection import detection_curve

if TYPE_CHECKING:  # importing matplotlib takes half a second: only functions that draw import it
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

ScoredTrials = tuple[Float[np.ndarray, " M"], Bool[np.ndarray, " M"]]

# Okabe and Ito's palette; line styles and marker shapes differ too.
SYSTEM_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TARGET_COLOUR, NONTARGET_COLOUR = "#0072B2", "#E69F00"
INK, GRID = "#333333", "#DDDDDD"
P_TARGET = 0.01  # prior of the marked lowest cost
_LINE_STYLES = ("-", "--", "-.", ":")

_TICKS = np.array([0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99])
_DRAWN_STEPS_PER_DEVIATE = 200  # finer than a pixel; 10 million trials draw as fast as a thousand
_POINT_NAMES = {
    "o": "equal error rate",
    "D": f"lowest cost at P(target) = {P_TARGET:g}",
    "s": "actual threshold for it",
}


@contextmanager
def plain_text() -> Iterator[None]:
    """Draws all text literally: a name may contain "$", which would start a formula, and letters of any script."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # drawn as boxes
        yield


def new_figure(width: float, height: float) -> "Figure":
    """Makes a figure of this size in inches with its own canvas, so that drawing leaves pyplot's global state alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def draw_detection(
    axes: "Axes", results: Mapping[str, ScoredTrials], actual_thresholds: Mapping[str, float] | None = None
) -> None:
    """Draws DET curves over each other and marks their operating points, except where these lie outside the picture.

    Args:
      axes: axes to draw on.
      results: name of each system to its scores ``[M]`` and targets ``[M]``.
      actual_thresholds: name of a system to the lowest score that it accepts; these points are marked too.

    Raises:
      UserError: ``detection_curve`` refuses the scores.
    """
    lowest, highest = 0.5, 0.75
    handles, names = [], []
    points: list[tuple[str, float, float, str]] = []
    for i, (name, (scores, target)) in enumerate(results.items()):
        curve = detection_curve(scores, target)
        # Zero has no normal deviate: half a trial replaces it.
        floor_miss, floor_false_alarm = 0.5 / np.count_nonzero(target), 0.5 / np.count_nonzero(~target)
        miss = ndtri(np.clip(curve.miss, floor_miss, 1 - floor_miss))
        false_alarm = ndtri(np.clip(curve.false_alarm, floor_false_alarm, 1 - floor_false_alarm))
        drawn = _select_visible(false_alarm, miss)
        eer = curve.equal_error_rate()
        style = _LINE_STYLES[i % len(_LINE_STYLES)]
        handles += axes.plot(false_alarm[drawn], miss[drawn], color=system_colour(i), linestyle=style, linewidth=1.8)
        names.append(f"{name}: EER {100 * eer:.2f} %, minDCF {curve.min_dcf(P_TARGET):.3f}")
        equal = ndtri(np.clip(eer, max(floor_miss, floor_false_alarm), 0.5))
        points.append(("o", equal, equal, system_colour(i)))
        best = int(np.argmin(curve.detection_cost(P_TARGET)))
        marked = {"D": best}
        if actual_thresholds and name in actual_thresholds:
            marked["s"] = int(np.searchsorted(curve.threshold, actual_thresholds[name]))
        for marker, point in marked.items():
            points.append((marker, false_alarm[point], miss[point], system_colour(i)))
            highest = max(highest, curve.miss[point])
        lowest = min(lowest, floor_miss, floor_false_alarm)
    low, right = ndtri(max(lowest, _TICKS[0] / 2)) - 0.1, ndtri(0.75)
    top = ndtri(min(highest, _TICKS[-1])) + 0.1  # low priors put the cheapest threshold where most targets are missed
    for marker, x, y, colour in points:
        if low <= x <= right and low <= y <= top:
            _draw_point(axes, marker, x, y, color=colour)
    axes.plot([low, top], [low, top], color=GRID, linewidth=1, zorder=0)
    axes.set(xlim=(low, right), ylim=(low, top), aspect="equal", xlabel="false alarm (%)", ylabel="miss (%)")
    for set_ticks, high in ((axes.set_xticks, right), (axes.set_yticks, top)):
        ticks = _TICKS[(ndtri(_TICKS) > low) & (ndtri(_TICKS) < high)]
        set_ticks(ndtri(ticks), [f"{100 * tick:g}" for tick in ticks])
    style_axes(axes)
    axes.grid(True, color=GRID, linewidth=0.6)
    for marker in "oDs" if actual_thresholds else "oD":
        handles.append(_draw_point(axes, marker, [], [], color=INK))
        names.append(_POINT_NAMES[marker])
    draw_legend(axes, handles, names)


def score_bins(scores: Float[np.ndarray, " M"]) -> Float[np.ndarray, "81"]:
    """Returns the edges of 80 bins from the lowest to the highest score."""
    low, high = scores.min(), scores.max()
    return np.linspace(low, high if high > low else low + 1, 81)


def draw_histogram(
    axes: "Axes",
    scores: Float[np.ndarray, " M"],
    target: Bool[np.ndarray, " M"],
    bins: Float[np.ndarray, " e"],
    threshold: float,
) -> None:
    """Draws the distributions of target and nontarget scores, and a threshold.

    Args:
      axes: axes to draw on.
      scores: ``[M]``.
      target: ``[M]``, true for trials of the same speaker.
      bins: ``[e]`` edges of the bins.
      threshold: threshold at the equal error rate.
    """
    for kind, colour, hatch in ((~target, NONTARGET_COLOUR, ""), (target, TARGET_COLOUR, "////")):
        label = f"{'target' if kind is target else 'nontarget'} ({np.count_nonzero(kind):,})"
        heights = np.histogram(scores[kind], bins)[0] / np.count_nonzero(kind)
        axes.stairs(heights, bins, fill=True, facecolor=colour, alpha=0.45, hatch=hatch, edgecolor="white", linewidth=0)
        axes.stairs(heights, bins, color=colour, linewidth=1.5, label=label)
    axes.axvline(threshold, color=INK, linestyle="--", linewidth=1.2, label=f"EER threshold {threshold:.3f}")
    style_axes(axes)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize="x-small", frameon=False, columnspacing=1.0)


def system_colour(i: int) -> str:
    """Returns the colour of the i-th system, the same in all pictures."""
    return SYSTEM_COLOURS[i % len(SYSTEM_COLOURS)]


def draw_legend(axes: "Axes", handles: Sequence["Artist"], names: Sequence[str]) -> None:
    """Draws the legend above the axes, because in any corner inside them it would cover a curve.

    It takes artists and names because matplotlib leaves out artists whose label starts with "_".
    """
    axes.legend(handles, names, loc="lower left", bbox_to_anchor=(0, 1), fontsize="small", frameon=False)


def style_axes(axes: "Axes") -> None:
    """Removes all but two thin spines and shortens the ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, length=3)


def _draw_point(axes: "Axes", marker: str, x: ArrayLike, y: ArrayLike, *, color: str) -> "Line2D":
    (point,) = axes.plot(
        x,
        y,
        marker=marker,
        color=color,
        markeredgecolor="white",
        markersize=8,
        linestyle="none",
        zorder=3,
        clip_on=False,
    )
    return point


def _select_visible(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the indices of the last point and of those that visibly differ from the point before."""
    cell = np.round(np.stack([x, y]) * _DRAWN_STEPS_PER_DEVIATE)
    moved = np.any(cell[:, 1:] != cell[:, :-1], axis=0)
    return np.flatnonzero(np.concatenate([[True], moved[:-1], [True]]))
