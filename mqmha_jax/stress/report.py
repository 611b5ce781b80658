"""Writes a stress test: tables of text, numbers for other programs, pictures and an HTML page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mqmha_jax.atomic import check_writable_directory, replacing, write_text
from mqmha_jax.evaluation.metrics.bootstrap import MIN_SPEAKERS
from mqmha_jax.evaluation.metrics.results import Measured
from mqmha_jax.evaluation.report.html.elements import (
    Markup,
    box,
    contents,
    definitions,
    heading,
    html_page,
    paragraph,
    png_picture,
    points,
    section,
    strong,
    table,
    with_small,
)
from mqmha_jax.json_file import write_sealed_json
from mqmha_jax.stress.conditions import CLEAN, CONDITIONS
from mqmha_jax.stress.picture import draw_stress, sort_conditions
from mqmha_jax.stress.results import ListUnderStress, StressTest
from mqmha_jax.text_table import align_table

FORMAT_VERSION = 1
NUMBERS_FILE, TABLES_FILE, PICTURE_FILE, PAGE_FILE = "stress.json", "stress.txt", "stress.png", "stress.html"

_WORDS = {
    "EER": "Equal error rate: the rate at which misses and false alarms are equally frequent.",
    "less clean": "The EER less that of the same trials as they were recorded. Both are measured on the same resamples "
    "of the speakers, so its interval is shorter than those of the two rates; where it does not hold 0, the "
    "condition changes the EER by more than chance.",
    "misses, false alarms": "The two error rates at the threshold that makes them equal on the clean trials: what a "
    "system with a fixed threshold does when the condition sets in.",
    "95 % interval": "A bootstrap over the speakers of the list.",
}


def check_output(directory: Path) -> None:
    """Refuses, before any work, a directory that cannot take the results.

    Raises:
      UserError: the directory cannot be made or written, or holds something that cannot be replaced.
    """
    check_writable_directory(directory, NUMBERS_FILE, TABLES_FILE, PICTURE_FILE, PAGE_FILE)


def format_stress(test: StressTest) -> str:
    """Formats a plain-text table for each list, and the mean over several; all rates in per cent."""
    parts = [*test.lists, *([test.mean] if test.mean else [])]
    tables = [f"{_describe_list(part)}\n{align_table([_HEADER, *_rows(part)], numbers=True)}" for part in parts]
    tables += [f"{name}: left out, {why}." for name, why in test.absent.items()]
    return "\n\n".join([*tables[: len(parts)], "\n".join(tables[len(parts) :])]).rstrip()


def write_stress(directory: Path, test: StressTest, *, title: str) -> None:
    """Writes everything about a stress test; each file appears whole or not at all.

    ``stress.txt`` has the tables, ``stress.json`` the numbers, ``stress.png`` the picture of the mean (or of the only
    list), and ``stress.html`` all of it on a page that needs no other file.

    Args:
      directory: made if missing.
      test: the results.
      title: what was tested.

    Raises:
      UserError: a file cannot be written.
    """
    write_text(directory / TABLES_FILE, format_stress(test) + "\n")
    with replacing(directory / PICTURE_FILE) as temporary:
        temporary.write_bytes(draw_stress(test.main, f"{title}, {test.main.name}"))
    write_text(directory / PAGE_FILE, _make_page(test, title))
    write_sealed_json(directory / NUMBERS_FILE, _numbers(test, title))


_HEADER = ["condition", "EER %", "95 % interval", "less clean", "95 % interval", "misses %", "false alarms %"]


def _rows(part: ListUnderStress) -> list[list[str]]:
    rows = []
    for name, row in part.conditions.items():
        difference = ["", ""] if name == CLEAN else [f"{100 * row.difference.value:+.2f}", _interval(row.difference)]
        fixed = [f"{100 * rate:.2f}" for rate in (row.miss, row.false_alarm)]
        rows.append([name, f"{100 * row.eer.value:.2f}", _interval(row.eer), *difference, *fixed])
    return rows


def _interval(measured: Measured) -> str:
    if measured.low is None or measured.high is None:
        return ""
    return f"[{100 * measured.low:.2f}, {100 * measured.high:.2f}]"


def _describe_list(part: ListUnderStress) -> str:
    counted = f"{part.name}: {part.num_targets:,} target and {part.num_nontargets:,} nontarget trials"
    if part.num_speakers is None:
        return counted
    few = "" if part.reliable else f"; below {MIN_SPEAKERS} speakers: interval unreliable"
    return f"{counted}, {part.num_speakers:,} speakers{few}"


def _make_page(test: StressTest, title: str) -> str:
    main = test.main
    parts = [*([test.mean] if test.mean else []), *test.lists]
    anchors = {f"list-{i}": part.name for i, part in enumerate(parts, start=1)}
    body: list[Markup] = [contents({"summary": "Summary", **anchors, "words": "Glossary", "settings": "Settings"})]
    body.append(section(heading(2, "Summary", "summary"), box(*map(paragraph, _summarise(main)))))
    for (anchor, name), part in zip(anchors.items(), parts, strict=True):
        picture = png_picture(draw_stress(part, name), f"Conditions sorted by the EER on {name}; clean is the line.")
        body.append(
            section(heading(2, name, anchor), paragraph(_describe_list(part), note=True), picture, _table(part))
        )
    if test.absent:
        body.append(section(heading(2, "Left out"), points([f"{n}: {why}." for n, why in test.absent.items()])))
    body.append(section(heading(2, "Glossary", "words"), definitions(_WORDS)))
    settings = {**test.settings, **{f"note {i}": note for i, note in enumerate(test.notes, start=1)}}
    made = table("How this was made", ["setting", "value"], list(settings.items()), words=2)
    body.append(section(heading(2, "Settings", "settings"), made))
    return html_page(f"Stress test of {title}", *body)


def _summarise(part: ListUnderStress) -> Sequence[str]:
    """The clean rate, the worst conditions, and which do not matter."""
    clean = part.conditions[CLEAN].eer
    others = [name for name in sort_conditions(part) if name != CLEAN]
    said: list[str] = [f"Clean: EER {100 * clean.value:.2f} % ({part.name})."]
    if others:
        worst = ", ".join(f"{name} {100 * part.conditions[name].eer.value:.1f} %" for name in reversed(others[-3:]))
        said.append(Markup("Worst: {}").format(strong(f"{worst}.")))
    harmless = [name for name in others if _holds_zero(part.conditions[name].difference)]
    if harmless:
        said.append(f"Not told apart from clean: {', '.join(harmless)}.")
    return said


def _holds_zero(measured: Measured) -> bool:
    return measured.low is not None and measured.high is not None and measured.low <= 0 <= measured.high


def _table(part: ListUnderStress) -> Markup:
    rows = []
    for name, row in zip(part.conditions, _rows(part), strict=True):
        title = CONDITIONS[name].title
        rows.append([with_small(name, title), with_small(*row[1:3]), with_small(*row[3:5]), *row[5:]])
    header = ["condition", "EER %", "less clean", "misses %", "false alarms %"]
    return table("Rates in per cent; misses and false alarms at the clean threshold", header, rows)


def _numbers(test: StressTest, title: str) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "title": title,
        "settings": dict(test.settings),
        "notes": list(test.notes),
        "absent": dict(test.absent),
        "lists": {part.name: _list_numbers(part) for part in test.lists},
        "mean": None if test.mean is None else _list_numbers(test.mean),
    }


def _list_numbers(part: ListUnderStress) -> dict[str, Any]:
    return {
        "targets": part.num_targets,
        "nontargets": part.num_nontargets,
        "speakers": part.num_speakers,
        "reliable": part.reliable,
        "conditions": {
            name: {
                "eer": row.eer._asdict(),
                "difference": row.difference._asdict(),
                "miss": row.miss,
                "false_alarm": row.false_alarm,
            }
            for name, row in part.conditions.items()
        },
    }
