"""Writes an evaluation as one HTML file: what was tested, how often the systems are wrong, on whom and when."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mqmha_jax.atomic import write_text
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.metrics.results import ListEvaluation
from mqmha_jax.evaluation.report.html.elements import contents, definitions, heading, html_page, section, table
from mqmha_jax.evaluation.report.html.glossary import GLOSSARY
from mqmha_jax.evaluation.report.html.recordings import Recordings
from mqmha_jax.evaluation.report.html.summary import choose_main_system, make_summary
from mqmha_jax.evaluation.report.html.trial_list import make_list_section
from mqmha_jax.types import Embeddings


def write_html_report(
    path: Path,
    evaluations: Sequence[ListEvaluation],
    *,
    title: str,
    settings: Mapping[str, str],
    embeddings: Embeddings | None = None,
    utt2spk: Mapping[str, str] | None = None,
    audio: Path | None = None,
) -> None:
    """Writes a page that opens without a network and needs no other file.

    All numbers use all trials, however long the lists are; curves are thinned to the resolution of the picture, and
    the maps show samples of the utterances. Ten million trials of three systems take about a minute and 0.4 GB.

    Args:
      path: the HTML file; it appears whole or not at all.
      evaluations: at least one list, each with at least one system.
      title: what was evaluated; the first heading adds the lists.
      settings: facts about the run, such as the checkpoint and the options.
      embeddings: embeddings ``[N, E]`` for a map of each list; None: no maps.
      utt2spk: speaker of each utterance, to colour the maps; ``evaluations`` already holds those of the lists.
      audio: folder that holds each utterance's recording under its id as path, for players beside the hardest trials.

    Raises:
      UserError: there is nothing to report, two lists have the same name, or the file cannot be written.
    """
    _check(evaluations)
    recordings = None if audio is None else Recordings(audio)
    anchors = [f"list-{i}" for i in range(1, len(evaluations) + 1)]
    places = {"summary": "Summary"} | {anchor: e.name for anchor, e in zip(anchors, evaluations, strict=True)}
    body = [contents(places | {"words": "Glossary", "settings": "Settings"}), make_summary(evaluations)]
    body += [
        make_list_section(
            evaluation, choose_main_system(evaluations, evaluation), embeddings, utt2spk, recordings, anchor=anchor
        )
        for anchor, evaluation in zip(anchors, evaluations, strict=True)
    ]
    body.append(section(heading(2, "Glossary", "words"), definitions(GLOSSARY)))
    made = table("How this was made", ["setting", "value"], list(settings.items()), words=2)
    body.append(section(heading(2, "Settings", "settings"), made))
    write_text(path, html_page(_title(title, evaluations), *body))


def _check(evaluations: Sequence[ListEvaluation]) -> None:
    names = [evaluation.name for evaluation in evaluations]
    if not names or not all(evaluation.systems for evaluation in evaluations):
        raise UserError("There is nothing to report; valid: at least one list, each scored by at least one system.")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"Two of the lists are called {twice[0]!r}; give them different names to tell them apart.")


def _title(evaluated: str, evaluations: Sequence[ListEvaluation]) -> str:
    first, *others = (evaluation.name for evaluation in evaluations)
    if len(others) > 2:
        return f"{evaluated} on {first} and {len(others)} other trial lists"
    return f"{evaluated} on {' and '.join([', '.join([first, *others[:-1]]), *others[-1:]])}"
