"""Formats a stress test as tables of text."""

from mqmha_jax.evaluation.metrics.bootstrap import MIN_SPEAKERS
from mqmha_jax.evaluation.metrics.results import Measured
from mqmha_jax.stress.conditions import CLEAN
from mqmha_jax.stress.results import ListUnderStress, StressTest
from mqmha_jax.text_table import align_table

HEADER = ["condition", "EER %", "95 % interval", "minus clean", "95 % interval", "misses %", "false alarms %"]


def format_stress(test: StressTest) -> str:
    """Formats a plain-text table for each list, and the mean over several; all rates in per cent."""
    parts = [*test.lists, *([test.mean] if test.mean else [])]
    tables = [f"{describe_list(part)}\n{align_table([HEADER, *format_rows(part)], numbers=True)}" for part in parts]
    tables += [f"{name}: left out, {why}." for name, why in test.absent.items()]
    return "\n\n".join([*tables[: len(parts)], "\n".join(tables[len(parts) :])]).rstrip()


def format_rows(part: ListUnderStress) -> list[list[str]]:
    """Cells of the table of a list, below ``HEADER``; the interval is empty where there is none."""
    rows = []
    for name, row in part.conditions.items():
        difference = ["", ""] if name == CLEAN else [f"{100 * row.difference.value:+.2f}", _interval(row.difference)]
        fixed = [f"{100 * rate:.2f}" for rate in (row.miss, row.false_alarm)]
        rows.append([name, f"{100 * row.eer.value:.2f}", _interval(row.eer), *difference, *fixed])
    return rows


def describe_list(part: ListUnderStress) -> str:
    """Counts the trials and speakers of a list."""
    counted = f"{part.name}: {part.num_targets:,} target and {part.num_nontargets:,} nontarget trials"
    if part.num_speakers is None:
        return counted
    few = "" if part.reliable else f"; below {MIN_SPEAKERS} speakers: interval unreliable"
    return f"{counted}, {part.num_speakers:,} speakers{few}"


def _interval(measured: Measured) -> str:
    if measured.low is None or measured.high is None:
        return ""
    return f"[{_percent(measured.low)}, {_percent(measured.high)}]"


def _percent(rate: float) -> str:
    return f"{round(100 * rate, 2) + 0.0:.2f}"  # adding zero turns "-0.00" into "0.00"
