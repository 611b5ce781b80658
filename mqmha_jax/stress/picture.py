"""Draws a stress test: the equal error rate under every condition with its interval, the clean one as a line."""

import io

from mqmha_jax.evaluation.report.drawing import (
    GRID,
    INK,
    SYSTEM_COLOURS,
    new_figure,
    plain_text,
    style_axes,
)
from mqmha_jax.stress.conditions import CLEAN, CONDITIONS
from mqmha_jax.stress.results import ListUnderStress

_WIDTH, _ROW, _AROUND = 6.0, 0.21, 1.2  # inches
_GROUPS = [group for group in dict.fromkeys(one.group for one in CONDITIONS.values()) if group != CLEAN]
_STYLES = dict(zip(_GROUPS, zip(SYSTEM_COLOURS, "os^DvPX", strict=True), strict=True))


def sort_conditions(part: ListUnderStress) -> list[str]:
    """Names of the conditions from the lowest to the highest equal error rate; ties keep the order of the table."""
    return sorted(part.conditions, key=lambda name: part.conditions[name].eer.value)


@plain_text()
def draw_stress(part: ListUnderStress, title: str, *, form: str = "png") -> bytes:
    """Draws a list, or the mean over lists.

    Args:
      part: the rates.
      title: line above the picture.
      form: of the picture, "png" or "svg".

    Returns:
      The file.
    """
    import matplotlib

    names = [name for name in sort_conditions(part) if name != CLEAN]
    figure = new_figure(_WIDTH, _AROUND + _ROW * max(len(names), 4))
    axes = figure.subplots()
    clean = part.conditions[CLEAN].eer
    if clean.low is not None and clean.high is not None:
        axes.axvspan(100 * clean.low, 100 * clean.high, color=GRID, alpha=0.6, linewidth=0)
    line = axes.axvline(100 * clean.value, color=INK, linewidth=1.2, linestyle="--")
    handles = {f"clean, {100 * clean.value:.1f} %": line}
    for row, name in enumerate(names):
        rate, group = part.conditions[name].eer, CONDITIONS[name].group
        colour, marker = _STYLES[group]
        if rate.low is not None and rate.high is not None:
            axes.plot([100 * rate.low, 100 * rate.high], [row, row], color=colour, linewidth=2, alpha=0.55)
        (point,) = axes.plot(100 * rate.value, row, marker, color=colour, markersize=6, linestyle="none")
        handles.setdefault(group, point)
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.set(ylim=(-0.6, max(len(names), 1) - 0.4), xlabel="EER (%), 95 % interval")
    axes.set_xlim(left=0)
    axes.grid(True, axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    style_axes(axes)
    axes.legend(list(handles.values()), list(handles), loc="lower right", fontsize="small")
    axes.set_title(title, loc="left", fontsize="medium", fontweight="bold")
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "stress"}):  # equal numbers give equal files
        figure.savefig(file, format=form, metadata={"Date": None} if form == "svg" else None)
    return file.getvalue()
