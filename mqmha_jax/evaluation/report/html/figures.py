"""Draws the pictures of the HTML report as SVG text: sharp at any size, small, and equal for equal numbers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit

from mqmha_jax.evaluation.metrics.detection import bayes_threshold, detection_curve
from mqmha_jax.evaluation.metrics.results import ListEvaluation
from mqmha_jax.evaluation.report.drawing import (
    GRID,
    INK,
    P_TARGET,
    draw_detection,
    draw_histogram,
    draw_legend,
    new_figure,
    plain_text,
    score_bins,
    style_axes,
    system_colour,
)
from mqmha_jax.evaluation.report.html.projection import EmbeddingMap
from mqmha_jax.evaluation.report.html.reliability import measure_reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MIN_SHOWN = 20  # with fewer trials a share is noise
_MARKERS = "osD^vP*Xd<"
_SHOWN_PRIORS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
_OTHERS_COLOUR = "#BBBBBB"


def draw_intervals(evaluations: Sequence[ListEvaluation]) -> str:
    """Draws the equal error rate of each list and system with its interval, dotted where unreliable."""
    rows = [(evaluation, i, system) for evaluation in evaluations for i, system in enumerate(evaluation.systems)]
    with _svg(7.0, 0.9 + 0.28 * len(rows)) as (figure, text):
        axes = figure.subplots()
        for place, (evaluation, i, system) in enumerate(rows):
            eer = system.metrics["EER"]
            if eer.low is not None and eer.high is not None:
                style = "-" if evaluation.reliable else ":"
                axes.plot([100 * eer.low, 100 * eer.high], [place, place], style, color=system_colour(i), linewidth=2)
            axes.plot(100 * eer.value, place, _marker(i), color=system_colour(i), markersize=7)
        axes.set_yticks(range(len(rows)), [f"{evaluation.name}: {system.name}" for evaluation, _, system in rows])
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="equal error rate (%)")
        axes.set_xlim(left=0)
        style_axes(axes)
        axes.grid(True, axis="x", color=GRID, linewidth=0.6)
    return text.getvalue()


def draw_detection_curves(evaluation: ListEvaluation) -> str:
    """Draws the DET curves of all systems of a list, with their operating points."""
    results = {system.name: (system.scores, evaluation.trials.target) for system in evaluation.systems}
    actual = {system.name: bayes_threshold(P_TARGET) for system in evaluation.systems if system.calibrated}
    with _svg(6.0, 7.0 + 0.2 * len(results)) as (figure, text):
        draw_detection(figure.subplots(), results, actual)
    return text.getvalue()


def draw_histograms(evaluation: ListEvaluation) -> str:
    """Draws a histogram of each system of a list, each with its own score axis."""
    with _svg(6.4, 0.4 + 2.1 * len(evaluation.systems)) as (figure, text):
        panels = np.atleast_1d(figure.subplots(len(evaluation.systems), 1))
        for axes, system in zip(panels, evaluation.systems, strict=True):
            bins = score_bins(system.scores)
            draw_histogram(axes, system.scores, evaluation.trials.target, bins, system.threshold)
            axes.set_title(system.name, loc="left", fontsize="medium")
            axes.set_xlabel("log-likelihood ratio" if system.calibrated else "score", fontsize="small")
    return text.getvalue()


def draw_calibration(evaluation: ListEvaluation) -> str:
    """Draws promised against true probabilities, and the cost of decisions at any prior, for the calibrated systems."""
    with _svg(9.6, 4.6) as (figure, text):
        left, right = figure.subplots(1, 2)
        calibrated = [i for i, system in enumerate(evaluation.systems) if system.calibrated]
        promises = [line for i in calibrated for line in _draw_reliability(left, evaluation, i)]
        costs = [line for i in calibrated for line in _draw_costs(right, evaluation, i)]
        promises += left.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=":")
        costs.append(right.axhline(1, color=INK, linewidth=1, linestyle=":"))
        names = [evaluation.systems[i].name for i in calibrated]
        draw_legend(left, promises, [*names, "perfect"])
        kinds = [f"{name}, {what}" for name in names for what in ("as calibrated", "best threshold")]
        draw_legend(right, costs, [*kinds, "without listening"])
        left.set(aspect="equal", xlim=(-2, 102), ylim=(-2, 102))
        left.set(xlabel="promised probability of the same speaker (%)", ylabel="share of the same speaker (%)")
        right.set_xticks(logit(_SHOWN_PRIORS), [f"{100 * prior:g}" for prior in _SHOWN_PRIORS])
        right.set(ylim=(0, 1.3), xlabel="prior probability of the same speaker (%)", ylabel="normalised cost")
        for axes in (left, right):
            style_axes(axes)
            axes.grid(True, color=GRID, linewidth=0.6)
    return text.getvalue()


def draw_map(shown: EmbeddingMap) -> str:
    """Draws the embedding map: named speakers by colour and shape, all others grey."""
    speaker = np.array(shown.speaker)
    with _svg(8.4, 5.6) as (figure, text):
        axes = figure.subplots()
        x, y = shown.points.T
        others = speaker < 0
        handles = []
        for i in range(len(shown.speakers)):
            # The cycles of colours and shapes differ in length, so that no two speakers look alike.
            own, colour, marker = speaker == i, system_colour(i), _marker(i)
            points = axes.scatter(x[own], y[own], s=26, color=colour, marker=marker, linewidths=0.3, edgecolors="white")
            handles.append(points)
        names = list(shown.speakers)
        if others.any():
            handles.append(axes.scatter(x[others], y[others], s=9, color=_OTHERS_COLOUR, linewidths=0, zorder=0))
            names.append("other speakers" if shown.speakers else "speakers not known")
        axes.legend(handles, names, loc="upper left", bbox_to_anchor=(1, 1), fontsize="small", frameon=False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")
        axes.spines[:].set_color(GRID)
    return text.getvalue()


def _draw_reliability(axes: "Axes", evaluation: ListEvaluation, i: int) -> list["Line2D"]:
    found = measure_reliability(evaluation.systems[i].scores, evaluation.trials.target)
    shown = found.num_trials >= MIN_SHOWN
    predicted, observed = 100 * found.predicted[shown], 100 * found.observed[shown]
    return axes.plot(predicted, observed, marker=_marker(i), color=system_colour(i), linewidth=1.5)


def _draw_costs(axes: "Axes", evaluation: ListEvaluation, i: int) -> list["Line2D"]:
    curve = detection_curve(evaluation.systems[i].scores, evaluation.trials.target)
    log_odds = np.linspace(logit(_SHOWN_PRIORS[0]), logit(_SHOWN_PRIORS[-1]), 61)
    lines = []
    for cost_at, style in ((curve.act_dcf, "-"), (curve.min_dcf, "--")):
        costs = [cost_at(float(prior)) for prior in expit(log_odds)]
        lines += axes.plot(log_odds, costs, style, color=system_colour(i), linewidth=1.5)
    return lines


def _marker(i: int) -> str:
    return _MARKERS[i % len(_MARKERS)]


@contextmanager
def _svg(width: float, height: float) -> Iterator[tuple["Figure", StringIO]]:
    """Gives a figure to draw on and a buffer that receives its SVG afterwards."""
    import matplotlib

    text = StringIO()
    # Browsers show text in any script, so it stays text.
    with plain_text(), matplotlib.rc_context({"svg.hashsalt": "mqmha", "svg.fonttype": "none"}):
        figure = new_figure(width, height)
        yield figure, text
        figure.savefig(text, format="svg", metadata={"Date": None})
