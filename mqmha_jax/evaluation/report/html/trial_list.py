"""Shows one trial list in a report: its curves and scores, and the effect of normalisation and calibration."""

from collections.abc import Mapping

import numpy as np

from mqmha_jax.errors import count_noun
from mqmha_jax.evaluation.metrics.results import ListEvaluation, SystemScores
from mqmha_jax.evaluation.report.drawing import P_TARGET
from mqmha_jax.evaluation.report.html.confusions import count_changed_decisions
from mqmha_jax.evaluation.report.html.elements import (
    Markup,
    code,
    columns,
    heading,
    paragraph,
    picture,
    section,
    table,
)
from mqmha_jax.evaluation.report.html.error_tables import make_error_tables
from mqmha_jax.evaluation.report.html.figures import (
    MIN_SHOWN,
    draw_calibration,
    draw_detection_curves,
    draw_histograms,
    draw_map,
)
from mqmha_jax.evaluation.report.html.projection import MIN_POINTS, project_embeddings
from mqmha_jax.evaluation.report.html.recordings import Recordings
from mqmha_jax.evaluation.report.html.words import percent
from mqmha_jax.types import Embeddings


def make_list_section(
    evaluation: ListEvaluation,
    system: SystemScores,
    embeddings: Embeddings | None,
    utt2spk: Mapping[str, str] | None,
    recordings: Recordings | None,
    *,
    anchor: str,
) -> Markup:
    """Makes the section about one list.

    Args:
      evaluation: the list and its systems.
      system: the system whose errors are shown in detail.
      embeddings: embeddings ``[N, E]`` of its utterances and of others; None: no map.
      utt2spk: speakers of utterances, in addition to those that the list knows.
      recordings: recordings for players; None: no players.
      anchor: id of the heading.
    """
    parts = [
        heading(2, evaluation.name, anchor),
        paragraph(_list_facts(evaluation)),
        *_curves(evaluation),
        *_before_after(evaluation),
        *_calibration(evaluation),
        *make_error_tables(evaluation, system, recordings),
    ]
    if embeddings is not None:
        parts += _map(evaluation, embeddings, utt2spk or {})
    return section(*parts)


def _list_facts(evaluation: ListEvaluation) -> str:
    trials = evaluation.trials
    num_targets = int(np.count_nonzero(trials.target))
    num_recordings = len({*trials.enrol, *trials.test})
    return (
        f"{count_noun(len(trials.target), 'trial')} with {count_noun(num_recordings, 'recording')}: "
        f"{count_noun(num_targets, 'trial')} of the same speaker (targets), {len(trials.target) - num_targets:,} of "
        "different speakers (nontargets)."
    )


def _curves(evaluation: ListEvaluation) -> list[Markup]:
    rates = ", ".join(f"{system.name} {percent(system.metrics['EER'].value)}" for system in evaluation.systems)
    squares = (
        " Squares: the threshold that calibrated scores use for that prior." if _select_calibrated(evaluation) else ""
    )
    errors = [
        heading(3, "Errors at every threshold"),
        picture(
            draw_detection_curves(evaluation),
            f"DET curves of {evaluation.name}. Equal error rates: {rates}.",
            "DET curves: misses against false alarms as the threshold moves; nearer to the lower left is better. "
            "Circles: both errors are equally frequent (EER). Diamonds: the cheapest threshold if one trial in "
            f"{1 / P_TARGET:g} is a target.{squares} Curves are thinned to the resolution of the picture; all numbers "
            "use all trials.",
        ),
    ]
    scores = [
        heading(3, "Scores"),
        picture(
            draw_histograms(evaluation),
            f"Histograms of the scores of targets and nontargets of {evaluation.name}.",
            "Distribution of the scores of targets and of nontargets, each scaled by itself. Less overlap is better. "
            "The system rejects trials left of the dashed line and accepts those right of it.",
        ),
    ]
    return [columns(errors, scores)]


def _before_after(evaluation: ListEvaluation) -> list[Markup]:
    first, *others = evaluation.systems
    if not others:
        return []
    before = first.metrics["EER"].value
    num_wrong = int(np.count_nonzero((first.scores >= first.threshold) != evaluation.trials.target))
    rows = [[first.name, percent(before), "", f"{num_wrong:,}", "", ""]]
    for system in others:
        eer, changes = system.metrics["EER"].value, count_changed_decisions(evaluation, first, system)
        wrong = f"{changes.both_wrong + changes.spoiled:,}"
        change = f"{100 * (eer - before):+.2f} points"
        rows.append([system.name, percent(eer), change, wrong, f"{changes.mended:,}", f"{changes.spoiled:,}"])
    header = ["scores", "EER", "change", "wrong decisions", "wrong before, right now", "right before, wrong now"]
    return [
        heading(3, "Before and after"),
        table(f"Compared with {first.name}, each with its own threshold at the EER", header, rows),
        paragraph(
            "A calibration by scale and offset moves the scores but keeps their order: it changes actDCF and Cllr, "
            "not EER and minDCF, and its DET curve covers that of the uncalibrated scores. Systems may differ even if "
            "their intervals overlap, because all intervals come from the same speakers; ",
            code("mqmha compare"),
            " compares two systems on the same resamples of the speakers.",
            note=True,
        ),
    ]


def _calibration(evaluation: ListEvaluation) -> list[Markup]:
    calibrated = _select_calibrated(evaluation)
    if not calibrated:
        return []
    # Their names tell the costs, if these are not 1.
    actual = next(name for name in calibrated[0].metrics if name.startswith("actDCF"))
    best = actual.replace("actDCF", "minDCF")
    return [
        heading(3, "Calibration"),
        picture(
            draw_calibration(evaluation),
            "Left: promised against true probabilities. Right: cost of decisions against the prior probability.",
            "Left: if the scores promise, say, 30 % (at a prior of one half), 30 % of these trials should be of the "
            "same speaker; nearer to the dotted line is better "
            f"(fewer than {MIN_SHOWN} trials make no point). "
            "Right: the cost of decisions by these promises (solid) and by the best threshold for this very list "
            "(dashed), at every prior; wrong calibration causes the gap. Above the dotted line the scores do harm.",
            width="56rem",
        ),
        table(
            "What wrong calibration costs",
            ["scores", actual, best, "lost", "Cllr (bits)", "minCllr", "lost"],
            [_calibration_row(system, actual, best) for system in calibrated],
        ),
    ]


def _calibration_row(system: SystemScores, *dcf: str) -> list[str]:
    actual, best, cllr, min_cllr = (system.metrics[name].value for name in (*dcf, "Cllr", "minCllr"))
    numbers = (actual, best, actual - best, cllr, min_cllr, cllr - min_cllr)
    return [system.name, *(f"{number:.3f}" for number in numbers)]


def _select_calibrated(evaluation: ListEvaluation) -> list[SystemScores]:
    return [system for system in evaluation.systems if system.calibrated]


def _map(evaluation: ListEvaluation, embeddings: Embeddings, utt2spk: Mapping[str, str]) -> list[Markup]:
    title = heading(3, "Map of the embeddings")
    trials = evaluation.trials
    if evaluation.enrol_speaker is not None and evaluation.test_speaker is not None:
        own = zip((*trials.enrol, *trials.test), (*evaluation.enrol_speaker, *evaluation.test_speaker), strict=True)
        utt2spk = dict(utt2spk) | dict(own)
    in_list = {*trials.enrol, *trials.test}
    rows = [row for row, utterance in enumerate(embeddings.ids) if utterance in in_list]
    of_list = Embeddings(tuple(embeddings.ids[row] for row in rows), embeddings.vectors[rows])
    shown = project_embeddings(of_list, utt2spk)
    if shown is None:
        few = f"{len(rows)} recordings have too few different embeddings for a map, which needs at least {MIN_POINTS}."
        return [title, paragraph(few)]
    part = f"all {len(rows):,}" if len(shown.ids) == len(rows) else f"{len(shown.ids):,} drawn from {len(rows):,}"
    named = f"; {count_noun(len(shown.speakers), 'speaker')} by colour and shape" if shown.speakers else ""
    caption = (
        f"Each point is a recording ({part}{named}). The network describes a recording by "
        f"{embeddings.vectors.shape[1]:,} numbers; t-SNE puts recordings with similar numbers near each other. Islands "
        "of one colour and shape are speakers that are easy to tell apart; mixed islands are speakers that are not. "
        "The sizes of islands and the distances between them mean nothing."
    )
    description = "Scatter plot of the embeddings; recordings of one speaker should be near each other."
    return [title, picture(draw_map(shown), description, caption, width="56rem")]
