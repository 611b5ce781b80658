"""Trial lists from beginning to end: read, checked, scored in every way asked for, measured."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mqmha_jax.data.lists import check_trials, read_models, read_trials
from mqmha_jax.data.metadata import NOTHING_KNOWN, Metadata, joined, model_metadata
from mqmha_jax.data.score_files import read_scores
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.sources import EmbeddingSource
from mqmha_jax.evaluation.leaks import shared_speakers, shared_utterances
from mqmha_jax.evaluation.metrics.measure_list import USUAL_MEASURING, Measuring, Scores, evaluate_list
from mqmha_jax.evaluation.metrics.results import Evaluation
from mqmha_jax.evaluation.scoring.backend import fit_backend
from mqmha_jax.evaluation.scoring.calibration import Calibration
from mqmha_jax.evaluation.scoring.method import COSINE_ONLY, Method
from mqmha_jax.evaluation.scoring.systems import Models, Scoring
from mqmha_jax.types import Embeddings, Trials


class ScoreFiles(NamedTuple):
    """Scores that something else made, a further system each.

    Attributes:
      paths: see ``read_scores``; a system is called by the name of its file.
      are_llr: they are natural-log likelihood ratios.
    """

    paths: Sequence[Path] = ()
    are_llr: bool = False


NO_SCORE_FILES = ScoreFiles()


def evaluate_lists(
    source: EmbeddingSource | None,
    lists: Sequence[Path],
    method: Method = COSINE_ONLY,
    *,
    known: Metadata = NOTHING_KNOWN,
    score_files: ScoreFiles = NO_SCORE_FILES,
    measuring: Measuring = USUAL_MEASURING,
    strict: bool = False,
) -> Evaluation:
    """Scores and measures trial lists.

    Args:
      source: of the embeddings; None: there are only files of scores.
      lists: at least one; a list is called by the name of its file.
      method: how embeddings become scores.
      known: about the utterances, beside what the source knows.
      score_files: further systems.
      measuring: costs and resamples.
      strict: refuse what would be noted, such as speakers that were trained on.

    Raises:
      UserError: something can not be read or does not fit together; with ``strict``, the first note.
    """
    method.check()
    trials = _read_lists(lists)
    models = read_models(method.enrol_map) if method.enrol_map else None
    if source is None:
        _check_without_embeddings(method, score_files)
        notes = [note for name, part in trials.items() for note in _check_alone(name, part)]
        _refuse(notes, strict)
        scored = _Scored({name: {} for name in trials}, {}, None, {"systems": "files of scores"})
    else:
        known = joined([source.known, known])
        calibration = (
            {f"calibration list {method.calibrate}": read_trials(method.calibrate)} if method.calibrate else {}
        )
        speakers = {
            name: {known.utt2spk[u] for u in _utterances(part, models) if u in known.utt2spk}
            for name, part in {**trials, **calibration}.items()
        }
        notes = _list_notes(source, trials | calibration, models)
        notes += _speaker_notes(speakers, source.training_speakers, [*calibration])
        _refuse(notes, strict)
        background = source.background(method.cohort, use_mean=method.use_mean)
        plan = method.backend
        labelled = None if plan.fitted_on is None else source.labelled(plan.fitted_on, per_speaker=plan.per_speaker)
        for name, own in speakers.items():
            notes += shared_speakers(
                name, own, background.cohort_speakers, "are in the cohort, too: take other speakers"
            )
            if labelled is not None:
                consequence = "were fitted on by the back-end, too: its numbers look better than they are"
                notes += shared_speakers(name, own, labelled.speaker, consequence)
        _refuse(notes, strict)
        backend = None if labelled is None else fit_backend(plan, labelled)
        scoring = Scoring(background, method.top_n, models, method.average, method.quality, backend)
        scored = _score(source, trials, next(iter(calibration.values()), None), scoring, known, method)
    of_models = None if models is None else model_metadata(known, models)
    evaluations = []
    for name, part in trials.items():
        systems = scored.systems[name] | _from_files(score_files, part, taken=scored.systems[name])
        evaluations.append(evaluate_list(name, part, systems, known=known, models=of_models, measuring=measuring))
    resamples = f"{measuring.replicates:,} resamples of the speakers, seed {measuring.seed}"
    return Evaluation(
        lists=tuple(evaluations),
        settings=scored.settings | {"intervals": f"95 %, {resamples}" if measuring.replicates else "none"},
        notes=tuple(notes),
        calibrations=scored.calibrations,
        embeddings=scored.embeddings,
        utt2spk={**known.utt2spk, **(of_models.utt2spk if of_models else {})},
    )


class _Scored(NamedTuple):
    systems: dict[str, dict[str, Scores]]
    calibrations: dict[str, Calibration]
    embeddings: Embeddings | None
    settings: dict[str, str]


def _score(
    source: EmbeddingSource,
    trials: Mapping[str, Trials],
    dev: Trials | None,
    scoring: Scoring,
    known: Metadata,
    method: Method,
) -> _Scored:
    """Every list by every system that embeddings allow."""
    everything = [*trials.values(), *([dev] if dev else [])]
    wanted = {utterance for part in everything for utterance in _utterances(part, scoring.models)}
    embeddings = source.embeddings(wanted)
    calibrations = scoring.fit(embeddings, dev, known) if dev else {}
    settings = {"embeddings": source.name, "mean": "subtracted" if scoring.background.mean is not None else "kept"}
    if scoring.background.cohort is not None:
        size = len(scoring.background.cohort)
        settings["as-norm"] = f"{method.cohort}, {size} members, the {scoring.top_n} nearest count"
    if scoring.backend is not None:
        settings["back-end"] = scoring.backend.description
    if dev:
        features = ", ".join(next(iter(calibrations.values())).features)
        settings["calibration"] = f"on {method.calibrate}, {len(dev.target):,} trials, by {features}"
    if scoring.models is not None:
        settings["enrolment"] = f"{method.enrol_map}, mean of the {scoring.average}"
    systems = {name: scoring.systems(embeddings, part, known, calibrations) for name, part in trials.items()}
    return _Scored(systems, calibrations, embeddings, settings)


def _list_notes(source: EmbeddingSource, lists: Mapping[str, Trials], models: Models | None) -> list[str]:
    """What looks unintended in lists, after refusing those that can not be evaluated."""
    trained = set(source.training_utterances())
    notes = []
    for name, part in lists.items():
        notes += check_trials(part, source.utterances, known_models=models, name=name)
        notes += shared_utterances(name, _utterances(part, models), trained, "were trained on")
    return notes


def _speaker_notes(
    speakers: Mapping[str, set[str]], trained: Sequence[str], calibration_lists: Sequence[str]
) -> list[str]:
    """Speakers that flatter the numbers: of the training, or of the list that calibrates."""
    notes = []
    for name, own in speakers.items():
        flattered = (
            "its calibration is too sure" if name in calibration_lists else "the numbers look better than they are"
        )
        notes += shared_speakers(name, own, trained, f"were trained on: {flattered}")
        for other in calibration_lists:
            if name != other:
                shared = "are in the calibration list as well: calibrated numbers look better than they are"
                notes += shared_speakers(name, own, speakers[other], shared)
    return notes


def _refuse(notes: Sequence[str], strict: bool) -> None:
    if strict and notes:
        raise UserError(f"{notes[0]} Mend the list, or evaluate without --strict to have it noted only.")


def _check_without_embeddings(method: Method, score_files: ScoreFiles) -> None:
    if not score_files.paths:
        raise UserError("Nothing to evaluate: give a work directory, --embeddings or --scores.")
    for option, given in (
        ("--as-norm", method.cohort),
        ("--calibrate", method.calibrate),
        ("--backend", method.backend.fitted_on),
    ):
        if given:
            raise UserError(f"{option} needs embeddings: give a work directory or --embeddings beside --scores.")


def _utterances(trials: Trials, models: Models | None) -> set[str]:
    """All utterances that a list needs."""
    if models is None:
        return {*trials.enrol, *trials.test}
    return {*trials.test}.union(*(models[model] for model in {*trials.enrol} if model in models))


def _read_lists(lists: Sequence[Path]) -> dict[str, Trials]:
    if not lists:
        raise UserError("There is no trial list; give one with --trials FILE.")
    trials = {path.stem: read_trials(path) for path in lists}
    if len(trials) < len(lists):
        raise UserError("Two trial lists have the same file name, by which results are called; rename one of them.")
    return trials


def _check_alone(name: str, trials: Trials) -> Iterable[str]:
    """The checks of a list that do not need embeddings."""
    return check_trials(trials, {*trials.test}, known_models={*trials.enrol}, name=name)


def _from_files(files: ScoreFiles, trials: Trials, *, taken: Mapping[str, Scores]) -> dict[str, Scores]:
    systems: dict[str, Scores] = {}
    for path in files.paths:
        if path.stem in systems or path.stem in taken:
            raise UserError(f"{path}: another system is called {path.stem!r}, too; rename the file.")
        systems[path.stem] = Scores(read_scores(path, trials), files.are_llr)
    return systems
