"""Shows where a system errs: in which conditions, on which speakers and in which trials."""

import numpy as np
from jaxtyping import Int

from mqmha_jax.evaluation.metrics.results import ListEvaluation, SystemScores
from mqmha_jax.evaluation.report.html.conditions import MIN_TRIALS, Condition, group_trials, measure_conditions
from mqmha_jax.evaluation.report.html.confusions import find_confused_pairs, find_hardest_trials
from mqmha_jax.evaluation.report.html.elements import Markup, heading, paragraph, table, two_lines
from mqmha_jax.evaluation.report.html.recordings import Recordings
from mqmha_jax.evaluation.report.html.words import NOT_KNOWN, percent

_SHOWN = 10  # pairs of speakers, and trials of each kind


def make_error_tables(
    evaluation: ListEvaluation, system: SystemScores, recordings: Recordings | None = None
) -> list[Markup]:
    """Makes tables of the error rates by condition, the most confused speakers and the hardest trials.

    Args:
      evaluation: the list and its systems.
      system: the system whose errors are shown.
      recordings: recordings for a player beside each of the hardest trials; None: no players.
    """
    return [*_conditions(evaluation, system), *_pairs(evaluation, system), *_hardest(evaluation, system, recordings)]


def _conditions(evaluation: ListEvaluation, system: SystemScores) -> list[Markup]:
    title = heading(3, "By condition")
    if not evaluation.attributes:
        return [title, paragraph("The recordings have no metadata, so there are no conditions to compare.")]
    alike, tables = [], []
    for name, column in evaluation.attributes.items():
        grouping = group_trials(column)
        if len(grouping.names) == 1:
            alike.append(f"{name} ({grouping.names[0]})")
            continue
        kind = "the smaller of the two sides" if column.words is None else "both sides"
        header = ["condition", *(f"EER {one.name}" for one in evaluation.systems)]
        header += [f"misses, {system.name}*", f"false alarms, {system.name}*", "targets", "nontargets", "speakers"]
        place = [one.name for one in evaluation.systems].index(system.name)
        rows = [_condition_row(condition, place) for condition in measure_conditions(evaluation, grouping)]
        tables.append(table(f"{name} ({kind})", header, rows))
    parts = [title]
    if tables:
        parts += [
            paragraph(
                "The EER of each condition has its own threshold. Columns with * use the one threshold of the whole "
                f"list ({system.threshold:.3f}), as a user of the system would. With fewer than {MIN_TRIALS} trials of "
                "a class no rate is shown, because a single trial would move it by more than a point.",
            ),
            *tables,
        ]
    if alike:
        parts.append(paragraph(f"The same in all trials: {', '.join(alike)}.", note=True))
    return parts


def _condition_row(condition: Condition, place: int) -> list[str]:
    def shown(rate: float | None, *counts: int) -> str:
        if rate is not None:
            return percent(rate)
        return "no such trials" if 0 in counts else "too few trials"

    counts = condition.num_targets, condition.num_nontargets
    rates = condition.rates[place]
    return [
        condition.name,
        *(shown(one.eer, *counts) for one in condition.rates),
        shown(rates.miss, condition.num_targets),
        shown(rates.false_alarm, condition.num_nontargets),
        *(f"{count:,}" for count in counts),
        NOT_KNOWN if condition.num_speakers is None else f"{condition.num_speakers:,}",
    ]


def _pairs(evaluation: ListEvaluation, system: SystemScores) -> list[Markup]:
    title = heading(3, "Most confused speakers")
    if evaluation.enrol_speaker is None or evaluation.test_speaker is None:
        return [title, paragraph("The speakers are not known.")]
    pairs = find_confused_pairs(evaluation, system, _SHOWN)
    if not pairs:
        return [title, paragraph(f"{system.name} confuses no two speakers.")]
    rows = [
        [
            " / ".join(pair.speakers),
            f"{pair.num_accepted:,} of {pair.num_trials:,}",
            f"{100 * pair.num_accepted / pair.num_trials:.0f} %",
            f"{pair.mean_score:.3f}",
            f"{pair.highest_score:.3f}",
        ]
        for pair in pairs
    ]
    header = ["speakers", "accepted as one", "share", "mean score", "highest score"]
    return [
        title,
        table(
            f"{system.name}: pairs of speakers with the highest false alarm rates (threshold {system.threshold:.3f})",
            header,
            rows,
        ),
    ]


def _hardest(evaluation: ListEvaluation, system: SystemScores, recordings: Recordings | None) -> list[Markup]:
    hardest = find_hardest_trials(evaluation, system, _SHOWN)
    kinds = (
        (f"{system.name}: the same speaker, lowest scores", hardest.targets),
        (f"{system.name}: different speakers, highest scores", hardest.nontargets),
    )
    return [
        heading(3, "Hardest trials"),
        paragraph("Worth listening to: the worst errors are often wrong labels, noise or clipped recordings."),
        *(_trial_table(caption, positions, evaluation, system, recordings) for caption, positions in kinds),
    ]


def _trial_table(
    caption: str,
    positions: Int[np.ndarray, " n"],
    evaluation: ListEvaluation,
    system: SystemScores,
    recordings: Recordings | None,
) -> Markup:
    trials = evaluation.trials
    header = ["enrolment / test", *(["listen"] if recordings else [])]
    known = evaluation.enrol_speaker is not None and evaluation.test_speaker is not None
    header += (["speakers"] if known else []) + list(evaluation.attributes) + ["score", "decision"]
    rows = []
    for i in positions:
        row: list[str] = [two_lines(trials.enrol[i], trials.test[i], is_id=True)]
        if recordings:
            row.append(recordings.play(trials.enrol[i], trials.test[i]))
        if evaluation.enrol_speaker is not None and evaluation.test_speaker is not None:
            row.append(two_lines(evaluation.enrol_speaker[i], evaluation.test_speaker[i]))
        row += [two_lines(*map(_attribute, column.of(int(i)))) for column in evaluation.attributes.values()]
        accepted = bool(system.scores[i] >= system.threshold)
        verdict = "right" if accepted == bool(trials.target[i]) else "wrong"
        row += [f"{system.scores[i]:.3f}", f"{verdict} ({'accepted' if accepted else 'rejected'})"]
        rows.append(row)
    return table(caption, header, rows, words=len(header) - 2)


def _attribute(value: str | float) -> str:
    return f"{value:g}" if isinstance(value, float) else (value or NOT_KNOWN)
