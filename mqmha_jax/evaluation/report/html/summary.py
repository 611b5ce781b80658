"""Makes the first section of a report: what was tested and how often it was wrong, in words, a table and a picture."""

from collections.abc import Sequence

import numpy as np

from mqmha_jax.errors import count_noun
from mqmha_jax.evaluation.metrics.bootstrap import MIN_SPEAKERS
from mqmha_jax.evaluation.metrics.results import ListEvaluation, SystemScores
from mqmha_jax.evaluation.report.html.elements import (
    Markup,
    box,
    heading,
    join,
    paragraph,
    picture,
    points,
    section,
    strong,
    table,
    with_small,
)
from mqmha_jax.evaluation.report.html.figures import draw_intervals
from mqmha_jax.evaluation.report.html.words import (
    NOT_KNOWN,
    format_metric,
    make_measured_cell,
    percent,
    phrase_error_rate,
    phrase_interval,
)


def make_summary(evaluations: Sequence[ListEvaluation]) -> Markup:
    """Says what a newcomer should know first.

    Args:
      evaluations: all lists.
    """
    return section(
        heading(2, "Summary", "summary"),
        box(*_in_words(evaluations)),
        paragraph(_how_sure(evaluations), note=True),
        _metric_table(evaluations),
        picture(
            draw_intervals(evaluations),
            "Equal error rates with intervals; the table above has the same numbers.",
            "Equal error rate of each list and way of scoring, with its 95 % interval (dotted where unreliable). "
            "Further left is better.",
        ),
    )


def choose_main_system(evaluations: Sequence[ListEvaluation], evaluation: ListEvaluation) -> SystemScores:
    """Chooses the system of a list whose errors the report shows in detail.

    It has the lowest mean EER among the systems that all lists have; if there is none, the lowest EER on this list. Of
    equal systems the first is chosen.

    Args:
      evaluations: all lists.
      evaluation: one of them.
    """
    candidates = _in_all_lists(evaluations)
    if not candidates:
        return min(evaluation.systems, key=lambda system: system.metrics["EER"].value)
    best = min(candidates, key=lambda name: _mean(candidates[name], "EER"))
    return next(system for system in evaluation.systems if system.name == best)


def _in_all_lists(evaluations: Sequence[ListEvaluation]) -> dict[str, list[SystemScores]]:
    """Returns the systems that all lists have, by name; one entry for each list."""
    by_name: dict[str, list[SystemScores]] = {}
    for evaluation in evaluations:
        for system in evaluation.systems:
            by_name.setdefault(system.name, []).append(system)
    return {name: systems for name, systems in by_name.items() if len(systems) == len(evaluations)}


def _mean(systems: Sequence[SystemScores], metric: str) -> float:
    return float(np.mean([system.metrics[metric].value for system in systems]))


def _in_words(evaluations: Sequence[ListEvaluation]) -> list[Markup]:
    names = dict.fromkeys(system.name for evaluation in evaluations for system in evaluation.systems)
    num_trials = sum(len(evaluation.trials.target) for evaluation in evaluations)
    where = "one trial list" if len(evaluations) == 1 else f"{len(evaluations)} trial lists"
    scored = f" Each trial was scored in several ways: {', '.join(names)}." if len(names) > 1 else ""
    lead = (
        "Do two recordings have the same speaker? This page says how often the answers are wrong, "
        f"on {where} with {count_noun(num_trials, 'trial')} (pairs of recordings).{scored}"
    )
    shown = [choose_main_system(evaluations, evaluation) for evaluation in evaluations]
    parts = [paragraph(lead), points(list(map(_sentence, evaluations, shown)))]
    if len(evaluations) > 1 and len({system.name for system in shown}) == 1:
        mean = percent(_mean(shown, "EER"))
        parts.append(paragraph(f"The mean equal error rate of {shown[0].name} over the lists is {mean}."))
    meaning = (
        "A wrong answer rejects a pair of one speaker or accepts a pair of two speakers. The threshold makes both "
        "errors equally frequent (the equal error rate, EER)."
    )
    flattered = (
        " The answers are those of the scoring with the lowest error rate on these very lists, so the numbers are a "
        "little too good."
        if len(names) > 1
        else ""
    )
    return [*parts, paragraph(meaning + flattered)]


def _sentence(evaluation: ListEvaluation, system: SystemScores) -> Markup:
    eer = system.metrics["EER"]
    speakers = "" if evaluation.num_speakers is None else f", {count_noun(evaluation.num_speakers, 'speaker')}"
    words, of = phrase_error_rate(eer)
    return join(
        f"{evaluation.name} ({count_noun(len(evaluation.trials.target), 'trial')}{speakers}): ",
        strong(words),
        f" with {system.name} ({phrase_interval(evaluation, eer, of)}).",
    )


def _how_sure(evaluations: Sequence[ListEvaluation]) -> str:
    parts = [
        "How sure are the numbers? An interval says where a number would probably be (19 times of 20) with other "
        "speakers of the same kind and the same system."
    ]
    few = [evaluation.name for evaluation in evaluations if _unreliable(evaluation)]
    if few:
        parts.append(
            f"Lists marked 'interval unreliable' ({', '.join(few)}) have fewer than {MIN_SPEAKERS} speakers, too few "
            "to know how much speakers differ: the true number may well lie outside the interval."
        )
    unknown = [evaluation.name for evaluation in evaluations if evaluation.num_speakers is None]
    if unknown:
        parts.append(f"The speakers of {', '.join(unknown)} are not known, so there is no interval.")
    return " ".join(parts)


def _unreliable(evaluation: ListEvaluation) -> bool:
    return evaluation.num_speakers is not None and not evaluation.reliable


def _metric_table(evaluations: Sequence[ListEvaluation]) -> Markup:
    systems = [system for evaluation in evaluations for system in evaluation.systems]
    metrics = list(dict.fromkeys(name for system in systems for name in system.metrics))
    rows: list[list[str]] = []
    for evaluation in evaluations:
        name = with_small(evaluation.name, "interval unreliable") if _unreliable(evaluation) else evaluation.name
        speakers = "not known" if evaluation.num_speakers is None else f"{evaluation.num_speakers:,}"
        for system in evaluation.systems:
            cells = (make_measured_cell(metric, system.metrics.get(metric)) for metric in metrics)
            rows.append([name, system.name, *cells, speakers])
    if len(evaluations) > 1:
        rows += _mean_rows(evaluations, metrics)
    caption = "Error rates and costs, each with its 95 % interval; lower is better"
    return table(caption, ["list", "scores", *metrics, "speakers"], rows, words=2)


def _mean_rows(evaluations: Sequence[ListEvaluation], metrics: Sequence[str]) -> list[list[str]]:
    rows: list[list[str]] = []
    for name, systems in _in_all_lists(evaluations).items():
        cells = (
            format_metric(metric, _mean(systems, metric))
            if all(metric in system.metrics for system in systems)
            else NOT_KNOWN
            for metric in metrics
        )
        rows.append(["mean", name, *cells, ""])
    return rows
