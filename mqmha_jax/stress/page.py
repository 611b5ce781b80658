"""Makes the HTML page of a stress test."""

from collections.abc import Sequence

from mqmha_jax.evaluation.metrics.results import Measured
from mqmha_jax.evaluation.report.html.elements import (
    Markup,
    box,
    contents,
    definitions,
    heading,
    html_page,
    paragraph,
    picture,
    points,
    section,
    strong,
    table,
    with_small,
)
from mqmha_jax.stress.conditions import CLEAN, CONDITIONS
from mqmha_jax.stress.picture import draw_stress, sort_conditions
from mqmha_jax.stress.results import ListUnderStress, StressTest
from mqmha_jax.stress.tables import describe_list, format_rows

_PLACES = {"summary": "Summary"}, {"conditions": "Conditions", "words": "Glossary", "settings": "Settings"}

_WORDS = {
    "EER": "Equal error rate: the rate at which misses and false alarms are equally frequent.",
    "minus clean": "The EER minus that of the same trials as they were recorded. Both are measured on the same "
    "resamples of the speakers, so its interval is shorter than those of the two rates; where it does not hold 0, the "
    "condition changes the EER by more than chance.",
    "misses, false alarms": "The two error rates at the threshold that makes them equal on the clean trials: what a "
    "system with a fixed threshold does when the condition sets in.",
    "95 % interval": "A bootstrap over the speakers of the list.",
}


def make_page(test: StressTest, title: str) -> str:
    """Makes a page that opens without a network and needs no other file.

    Args:
      test: the results.
      title: what was tested.
    """
    main = test.main
    parts = [*([test.mean] if test.mean else []), *test.lists]
    anchors = {f"list-{i}": part.name for i, part in enumerate(parts, start=1)}
    body: list[Markup] = [contents(_PLACES[0] | anchors | _PLACES[1])]
    body.append(section(heading(2, "Summary", "summary"), box(*map(paragraph, _summarise(main)))))
    for anchor, part in zip(anchors, parts, strict=True):
        name = part.name[:1].upper() + part.name[1:]
        told = paragraph(describe_list(part), note=True)
        body.append(section(heading(2, name, anchor), told, _picture(part), _table(part)))
    if test.absent:
        body.append(section(heading(2, "Left out"), points([f"{n}: {why}." for n, why in test.absent.items()])))
    tested = {name: f"{CONDITIONS[name].title}." for name in main.conditions}
    body.append(section(heading(2, "Conditions", "conditions"), definitions(tested)))
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


def _picture(part: ListUnderStress) -> Markup:
    svg = draw_stress(part, part.name, form="svg").decode()
    shown = f"Conditions sorted by the EER on {part.name}; the line is the clean one, grey its interval."
    return picture(svg, "The equal error rate under every condition; the table below has the numbers.", shown)


def _table(part: ListUnderStress) -> Markup:
    rows = []
    for row in format_rows(part):
        rows.append([row[0], with_small(*row[1:3]), with_small(*row[3:5]), *row[5:]])
    header = ["condition", "EER %", "minus clean", "misses %", "false alarms %"]
    return table("Rates in per cent; misses and false alarms at the clean threshold", header, rows)
