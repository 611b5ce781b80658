"""Pictures of detection: DET curves and score histograms, in colours that colour-blind readers tell apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtri

from mqmha_jax.evaluation.metrics import DetectionCurve, detection_curve

if TYPE_CHECKING:  # importing matplotlib takes half a second, which only those who draw should pay
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ScoredTrials = tuple[Float[np.ndarray, " M"], Bool[np.ndarray, " M"]]

# Okabe and Ito's palette; line styles and marker shapes repeat what the colours say.
_SYSTEM_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINE_STYLES = ("-", "--", "-.", ":")
_TARGET_COLOUR, _NONTARGET_COLOUR = "#0072B2", "#E69F00"
_INK, _GRID = "#333333", "#DDDDDD"

_TICKS = np.array([0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9])
_DRAWN_STEPS_PER_DEVIATE = 200  # finer than a pixel, so that 10 million trials draw as fast as a thousand
_P_TARGET = 0.01


def detection_plot(results: Mapping[str, ScoredTrials], path: str | Path) -> None:
    """Draws DET curves of several systems over each other.

    Args:
      results: name of each system to its scores ``[M]`` and targets ``[M]``.
      path: image file to write; its ending says the format.

    Raises:
      UserError: scores that ``detection_curve`` refuses.
    """
    figure = _figure(5.6, 5.8 + 0.2 * len(results))
    _draw_detection(figure.subplots(), results)
    figure.savefig(path)


def score_histogram(
    scores: Float[np.ndarray, " M"], target: Bool[np.ndarray, " M"], path: str | Path, *, title: str = ""
) -> None:
    """Draws how the scores of target and of nontarget trials are distributed.

    Args:
      scores: ``[M]`` cosines or other scores.
      target: ``[M]`` which trials are of one speaker.
      path: image file to write; its ending says the format.
      title: line above the picture.

    Raises:
      UserError: scores that ``detection_curve`` refuses.
    """
    figure = _figure(6.4, 3.4)
    axes = figure.subplots()
    _draw_histogram(axes, scores, target, _bins([scores]))
    _finish_histograms([axes])
    axes.set_title(title, loc="left", fontsize="medium")
    figure.savefig(path)


def result_picture(results: Mapping[str, ScoredTrials], path: str | Path, title: str = "") -> None:
    """Draws DET curves on the left, and on the right a histogram of each system on one score axis.

    Args:
      results: name of each system (or list) to its scores ``[M]`` and targets ``[M]``.
      path: image file to write; its ending says the format.
      title: line above the picture.

    Raises:
      UserError: scores that ``detection_curve`` refuses.
    """
    figure = _figure(11.5, max(5.6 + 0.35 * len(results), 1.7 * len(results)))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.05), squeeze=False)[0]
    _draw_detection(left.subplots(), results)
    panels = np.atleast_1d(right.subplots(len(results), 1, sharex=True))
    bins = _bins([scores for scores, _ in results.values()])
    for axes, (name, (scores, target)) in zip(panels, results.items(), strict=True):
        _draw_histogram(axes, scores, target, bins)
        axes.set_title(name, loc="left", fontsize="medium")
    _finish_histograms(panels)
    if title:
        figure.suptitle(title, fontsize="large", fontweight="bold")
    figure.savefig(path)


def _figure(width: float, height: float) -> "Figure":
    """A figure of its own canvas: drawing leaves no trace in pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _draw_detection(axes: "Axes", results: Mapping[str, ScoredTrials]) -> None:
    lowest = 0.5
    for i, (name, (scores, target)) in enumerate(results.items()):
        curve = detection_curve(scores, target)
        colour = _SYSTEM_COLOURS[i % len(_SYSTEM_COLOURS)]
        # Half a trial stands for none, which has no normal deviate.
        floor_miss, floor_false_alarm = 0.5 / np.count_nonzero(target), 0.5 / np.count_nonzero(~target)
        miss = ndtri(np.clip(curve.miss, floor_miss, 1 - floor_miss))
        false_alarm = ndtri(np.clip(curve.false_alarm, floor_false_alarm, 1 - floor_false_alarm))
        drawn = _visible(false_alarm, miss)
        eer = curve.equal_error_rate()
        best = int(np.argmin(curve.detection_cost(_P_TARGET)))
        axes.plot(
            false_alarm[drawn],
            miss[drawn],
            color=colour,
            linestyle=_LINE_STYLES[i % len(_LINE_STYLES)],
            linewidth=1.8,
            label=f"{name}: EER {100 * eer:.2f} %, minDCF {curve.min_dcf(_P_TARGET):.3f}",
        )
        equal = ndtri(np.clip(eer, max(floor_miss, floor_false_alarm), 0.5))
        point: dict[str, Any] = {
            "color": colour,
            "markeredgecolor": "white",
            "markersize": 8,
            "linestyle": "none",
            "zorder": 3,
        }
        axes.plot(equal, equal, marker="o", **point)
        axes.plot(false_alarm[best], miss[best], marker="D", **point)
        lowest = min(lowest, floor_miss, floor_false_alarm)
    limits = ndtri(max(lowest, _TICKS[0] / 2)) - 0.1, ndtri(0.75)
    axes.plot(limits, limits, color=_GRID, linewidth=1, zorder=0)
    ticks = _TICKS[(ndtri(_TICKS) > limits[0]) & (ndtri(_TICKS) < limits[1])]
    labels = [f"{100 * tick:g}" for tick in ticks]
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="false alarm (%)", ylabel="miss (%)")
    axes.set_xticks(ndtri(ticks), labels)
    axes.set_yticks(ndtri(ticks), labels)
    _style(axes)
    axes.grid(True, color=_GRID, linewidth=0.6)
    handles, names = axes.get_legend_handles_labels()
    handles += [
        axes.plot([], [], marker=marker, color=_INK, markeredgecolor="white", markersize=8, linestyle="none")[0]
        for marker in "oD"
    ]
    names += ["equal error rate", f"lowest cost at P(target) = {_P_TARGET:g}"]
    # Above the axes: inside them it would cover a curve, whichever corner it takes.
    axes.legend(handles, names, loc="lower left", bbox_to_anchor=(0, 1), fontsize="small", frameon=False)


def _visible(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the points that differ from the one before at the resolution of the picture, and the last."""
    cell = np.round(np.stack([x, y]) * _DRAWN_STEPS_PER_DEVIATE)
    moved = np.any(cell[:, 1:] != cell[:, :-1], axis=0)
    return np.flatnonzero(np.concatenate([[True], moved[:-1], [True]]))


def _bins(all_scores: Sequence[np.ndarray]) -> np.ndarray:
    low, high = min(scores.min() for scores in all_scores), max(scores.max() for scores in all_scores)
    return np.linspace(low, high if high > low else low + 1, 81)


def _draw_histogram(axes: "Axes", scores: np.ndarray, target: np.ndarray, bins: np.ndarray) -> None:
    curve: DetectionCurve = detection_curve(scores, target)
    for kind, colour, hatch in ((~target, _NONTARGET_COLOUR, ""), (target, _TARGET_COLOUR, "////")):
        label = f"{'target' if kind is target else 'nontarget'} ({np.count_nonzero(kind):,})"
        heights = np.histogram(scores[kind], bins)[0] / np.count_nonzero(kind)
        axes.stairs(heights, bins, fill=True, facecolor=colour, alpha=0.45, hatch=hatch, edgecolor="white", linewidth=0)
        axes.stairs(heights, bins, color=colour, linewidth=1.5, label=label)
    threshold = curve.equal_error_threshold()
    label = f"EER threshold {threshold:.3f}"
    axes.axvline(threshold, color=_INK, linestyle="--", linewidth=1.2, label=label)


def _finish_histograms(panels: Sequence["Axes"] | np.ndarray) -> None:
    for axes in panels:
        _style(axes)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize="x-small", frameon=False, columnspacing=1.0
        )
    panels[-1].set_xlabel("score")


def _style(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    axes.tick_params(colors=_INK, length=3)
