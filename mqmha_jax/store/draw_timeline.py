"""Draws which enrolled speaker speaks when."""

from pathlib import Path

import numpy as np

from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.report.drawing import GRID, INK, SYSTEM_COLOURS, new_figure, plain_text
from mqmha_jax.store.timeline import NOBODY, Timeline, total_seconds

_NOBODY_COLOUR = "#999999"


def check_picture_name(path: Path) -> None:
    """Refuses the name of a picture whose ending is not that of a format.

    Raises:
      UserError: the ending is invalid; lists the valid ones.
    """
    valid = sorted(new_figure(1.0, 1.0).canvas.get_supported_filetypes())
    if path.suffix[1:].lower() not in valid:
        listed = ", ".join(f".{ending}" for ending in valid)
        raise UserError(f"{path}: the ending of a picture's name gives its format; valid: {listed}.")


@plain_text()
def draw_timeline(timeline: Timeline, path: str | Path) -> None:
    """Draws the segments, one row per speaker, and below them the scores over time.

    Args:
      timeline: to draw.
      path: image file to write; its ending gives the format.
    """
    drawn = [*timeline.speakers, *([None] if None in total_seconds(timeline.segments) else [])]
    figure = new_figure(11.5, 2.6 + 0.32 * len(drawn))
    rows, curves = figure.subplots(2, 1, sharex=True, height_ratios=(0.6 + 0.32 * len(drawn), 1.8))
    seconds = timeline.evidence.duration_s
    unit, name = (60.0, "minutes") if seconds >= 180 else (1.0, "seconds")
    for row, speaker in enumerate(drawn):
        spans = [
            (one.start_s / unit, (one.end_s - one.start_s) / unit)
            for one in timeline.segments
            if one.speaker == speaker
        ]
        rows.broken_barh(spans, (row - 0.35, 0.7), facecolors=_colour(row, speaker))
    totals = timeline.totals()
    rows.set_yticks(range(len(drawn)), [f"{one or NOBODY}  {totals[one]:.0f} s" for one in drawn])
    rows.set_ylim(max(0, len(drawn) - 1) + 0.6, -0.6)
    rows.grid(axis="x", color=GRID)
    rows.set_title(timeline.recording, loc="left", fontsize="medium", color=INK)
    middle = (np.arange(timeline.scores.shape[1]) + 0.5) * timeline.step_s / unit
    for row, scores in enumerate(timeline.scores):
        curves.plot(middle, scores, color=_colour(row, timeline.speakers[row]), linewidth=1)
    if timeline.threshold is not None:
        curves.axhline(timeline.threshold, color=INK, linewidth=0.8, linestyle=":")
        curves.annotate(
            "threshold", (1, timeline.threshold), xycoords=("axes fraction", "data"), ha="right", va="bottom"
        )
    curves.set_xlim(0, max(seconds, 0.1) / unit)
    curves.set_xlabel(name)
    curves.set_ylabel("score")
    curves.grid(color=GRID)
    for axes in (rows, curves):
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _colour(row: int, speaker: str | None) -> str:
    return _NOBODY_COLOUR if speaker is None else SYSTEM_COLOURS[row % len(SYSTEM_COLOURS)]
