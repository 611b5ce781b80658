"""Draws the picture of an evaluation: DET curves and score histograms."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mqmha_jax.evaluation.metrics.detection import detection_curve
from mqmha_jax.evaluation.report.drawing import (
    ScoredTrials,
    draw_detection,
    draw_histogram,
    new_figure,
    plain_text,
    score_bins,
)


@plain_text()
def draw_results(results: Mapping[str, ScoredTrials], path: str | Path, title: str = "") -> None:
    """Draws DET curves on the left and a histogram of each system, with its own score axis, on the right.

    Args:
      results: name of each system (or list) to its scores ``[M]`` and targets ``[M]``.
      path: image file to write; its ending gives the format.
      title: line above the picture.

    Raises:
      UserError: ``detection_curve`` refuses the scores.
    """
    figure = new_figure(11.5, max(5.6 + 0.35 * len(results), 1.7 * len(results)))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.05), squeeze=False)[0]
    draw_detection(left.subplots(), results)
    panels = np.atleast_1d(right.subplots(len(results), 1))
    for axes, (name, (scores, target)) in zip(panels, results.items(), strict=True):
        draw_histogram(axes, scores, target, score_bins(scores), _threshold(scores, target))
        axes.set_title(name, loc="left", fontsize="medium")
    panels[-1].set_xlabel("score")
    if title:
        figure.suptitle(title, fontsize="large", fontweight="bold")
    figure.savefig(path)


def _threshold(scores: np.ndarray, target: np.ndarray) -> float:
    return detection_curve(scores, target).equal_error_threshold()
