"""The evaluation of trial lists, from beginning to end: read, check, score, measure."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mqmha_jax.data.ids import check_id
from mqmha_jax.data.infer_speakers import infer_speakers
from mqmha_jax.data.lists import read_models, read_trials
from mqmha_jax.data.metadata import NOTHING_KNOWN, Metadata, join_metadata, model_metadata
from mqmha_jax.data.score_files import read_scores
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.evaluation.embeddings.audio_source import AudioFolder, AudioSource
from mqmha_jax.evaluation.embeddings.run_source import RunSource
from mqmha_jax.evaluation.embeddings.sources import EmbeddingSource
from mqmha_jax.evaluation.keep_decisions import keep_decisions, require_verify_method, require_writable
from mqmha_jax.evaluation.list_checks import (
    check_lists,
    check_score_lists,
    fit_top_n,
    note_left_out,
    note_reversed,
    note_unused_metadata,
)
from mqmha_jax.evaluation.lists import Lists, leave_out, utterances_of
from mqmha_jax.evaluation.metrics.measure_list import USUAL_MEASURING, Measuring, Scores, evaluate_list
from mqmha_jax.evaluation.numbers import require_direction
from mqmha_jax.evaluation.results import Evaluation
from mqmha_jax.evaluation.scoring.backend import fit_backend
from mqmha_jax.evaluation.scoring.calibration import Calibration
from mqmha_jax.evaluation.scoring.method import COSINE_ONLY, Method
from mqmha_jax.evaluation.scoring.systems import Systems
from mqmha_jax.runs.checkpoint_directory import Step
from mqmha_jax.runs.data_paths import explain_path
from mqmha_jax.say import Say, say_nothing
from mqmha_jax.types import Embeddings, Trials


class ScoreFiles(NamedTuple):
    """Scores of other systems; each file adds one system.

    Attributes:
      paths: see ``read_scores``; a system is called by the name of its file.
      are_llr: the scores are natural-log likelihood ratios.
    """

    paths: Sequence[Path] = ()
    are_llr: bool = False


NO_SCORE_FILES = ScoreFiles()


def evaluate_run(
    workdir: Path,
    *,
    data: Sequence[Path] = (),
    audio: AudioFolder | None = None,
    calibrate_data: Sequence[Path] = (),
    lists: Sequence[Path] = (),
    method: Method = COSINE_ONLY,
    step: Step = None,
    known: Metadata = NOTHING_KNOWN,
    score_files: ScoreFiles = NO_SCORE_FILES,
    measuring: Measuring = USUAL_MEASURING,
    strict: bool = False,
    keep: bool | None = None,
    progress: bool = True,
    say: Say = say_nothing,
) -> Evaluation:
    """Scores trial lists with the network of a run, and measures them.

    Args:
      workdir: of the run.
      data: shards with the utterances of the lists; none: the run's dev shards.
      audio: folder of the recordings that the lists name, which are embedded in place of shards.
      calibrate_data: shards with the utterances of the calibration list, if ``data`` lacks them; not with ``audio``.
      lists: trial lists; none: the run's dev list.
      method: how embeddings become scores.
      step: of the checkpoint; "best": with the lowest dev EER, None: the newest.
      known: facts about the utterances, in addition to those in the shards.
      score_files: further systems.
      measuring: costs and resamples.
      strict: refuse what is otherwise noted, such as speakers that the network was trained on.
      keep: keep the threshold (of the first list) and the calibration in the work directory, for ``verify`` at this
        step; None: only if the list is the run's own dev list.
      progress: show progress bars.
      say: receives a sentence for each note, before the work, and for what changes for ``verify``.

    Raises:
      UserError: run, data or lists are missing or do not fit together.
    """
    method.check()  # before the network is loaded
    if audio is not None and calibrate_data:
        raise UserError("--calibrate-data does not go with --audio, which also holds the recordings to calibrate on.")
    if keep:
        require_verify_method(method)
        require_writable(workdir)
    loading: dict[str, Any] = {"step": step, "progress": progress, "say": say}
    source: RunSource | AudioSource
    if audio is None:
        source = RunSource(workdir, data, calibrate_data, **loading)
    else:
        source = _open_audio(workdir, audio, lists, method, known, **loading)
    own = Path(source.config.data.dev_trials) if source.config.data.dev_trials else None
    if not lists and own is None:
        raise UserError(f"The run in {workdir} has no dev list; give a list with --data DIR --trials FILE.")
    if not lists and own is not None and not own.is_file():
        where = explain_path(workdir, "data.dev_trials", str(own))
        raise UserError(f"There is no trial list {own}. {where} Give a list with --data DIR --trials FILE.")
    lists = lists or [own]  # type: ignore[list-item]  # checked above
    evaluation = evaluate_lists(
        source,
        lists,
        method,
        known=known,
        score_files=score_files,
        measuring=measuring,
        strict=strict,
        say=say,
    )
    is_own = own is not None and lists[0].resolve() == own.resolve()
    keep_decisions(workdir, source.step, evaluation, method, asked=keep, is_own=is_own, say=say)
    return evaluation


def evaluate_lists(
    source: EmbeddingSource | None,
    lists: Sequence[Path],
    method: Method = COSINE_ONLY,
    *,
    known: Metadata = NOTHING_KNOWN,
    score_files: ScoreFiles = NO_SCORE_FILES,
    measuring: Measuring = USUAL_MEASURING,
    strict: bool = False,
    say: Say = say_nothing,
) -> Evaluation:
    """Scores trial lists with embeddings from any source, and measures them.

    Args:
      source: of the embeddings; None: there are only files of scores.
      lists: at least one; a list is called by the name of its file.
      method: how embeddings become scores.
      known: facts about the utterances, in addition to those that the source knows.
      score_files: further systems.
      measuring: costs and resamples.
      strict: refuse what is otherwise noted, such as speakers that the network was trained on.
      say: receives a sentence for each note, before the work.

    Raises:
      UserError: something cannot be read or does not fit together; with ``strict``, the first note.
    """
    method.check()
    everything = _read(source, lists, method, known)
    read = everything if source is None else leave_out(everything, source.left_out)
    if source is None:
        notes = check_score_lists(read, method, any_scores=bool(score_files.paths))
    else:
        notes = check_lists(source, read, method)
    notes += note_unused_metadata(known, everything)
    if strict and notes:
        raise UserError(f"{notes[0]} Correct the list, or evaluate without --strict, which only notes it.")
    for note in notes:
        say(f"Warning: {note}")
    # Before the embedding, which may take hours.
    in_files = {name: _read_scores(score_files, part) for name, part in read.trials.items()}
    scored = _NOTHING_SCORED
    if source is not None:
        before = read
        read, scored = _score(source, read, fit_top_n(method, source, say))
        for path in score_files.paths:
            _refuse_name(path, {name for own in scored.systems.values() for name in own})
        in_files = {name: _select(own, before.trials[name], read.trials[name]) for name, own in in_files.items()}
        for note in (left_out := note_left_out(everything, read)):
            say(f"Warning: {note}")
        notes += left_out
    evaluation = _measure(read, scored, in_files, measuring, notes)
    for note in (worse := note_reversed(evaluation.lists, {path.stem: path for path in score_files.paths})):
        say(f"Warning: {note}")
    return evaluation._replace(notes=(*evaluation.notes, *worse))


def _open_audio(
    workdir: Path, audio: AudioFolder, lists: Sequence[Path], method: Method, known: Metadata, **loading: Any
) -> AudioSource:
    """The recordings that the lists name; where no metadata tell their speakers, the lists do."""
    trials = [read_trials(path) for path in (*lists, *([method.calibrate] if method.calibrate else []))]
    models = read_models(method.enrol_map) if method.enrol_map else None
    utterances = dict.fromkeys(name for part in trials for name in utterances_of(part, models))
    speakers = {} if known.utt2spk or models else infer_speakers(trials)
    return AudioSource(workdir, audio, [*utterances], speakers, **loading)


class _Scored(NamedTuple):
    systems: Mapping[str, Mapping[str, Scores]]  # of each list
    calibrations: Mapping[str, Calibration]
    embeddings: Embeddings | None
    settings: Mapping[str, str]


_NOTHING_SCORED = _Scored({}, {}, None, {"systems": "files of scores"})


def _read(source: EmbeddingSource | None, lists: Sequence[Path], method: Method, known: Metadata) -> Lists:
    if not lists:
        raise UserError("There is no trial list; give one with --trials FILE.")
    trials = {check_id(path.stem, "The name of the trial list"): read_trials(path) for path in lists}
    if len(trials) < len(lists):
        raise UserError("Two trial lists have the same file name, which names the results; rename one of them.")
    return Lists(
        trials=trials,
        calibration={f"calibration list {method.calibrate}": read_trials(method.calibrate)} if method.calibrate else {},
        models=read_models(method.enrol_map) if method.enrol_map else None,
        known=known if source is None else join_metadata([source.known, known]),
    )


def _score(source: EmbeddingSource, read: Lists, method: Method) -> tuple[Lists, _Scored]:
    """Scores every list by every system that the method and the source allow; returns the lists that were scored."""
    background = source.background(method.cohort, use_mean=method.use_mean)
    plan = method.backend
    labelled = None if plan.fitted_on is None else source.load_labelled(plan.fitted_on, per_speaker=plan.per_speaker)
    backend = None if labelled is None else fit_backend(plan, labelled)
    systems = Systems(method, background, read.models, backend)
    everything = [*read.trials.values(), *read.calibration.values()]
    embeddings = source.embeddings({name for part in everything for name in utterances_of(part, read.models)})
    require_direction(embeddings.vectors, embeddings.ids)  # before a mean hides an embedding of length zero
    read = leave_out(read._replace(known=join_metadata([source.known, read.known])), source.left_out)
    dev = next(iter(read.calibration.values()), None)
    calibrations = systems.fit_calibrations(embeddings, dev, read.known) if dev else {}
    scored = _Scored(
        systems={
            name: systems.score_and_calibrate(embeddings, part, read.known, calibrations)
            for name, part in read.trials.items()
        },
        calibrations=calibrations,
        embeddings=embeddings,
        settings={"embeddings": source.name} | _settings(systems, dev, calibrations),
    )
    return read, scored


def _settings(systems: Systems, dev: Trials | None, calibrations: Mapping[str, Calibration]) -> dict[str, str]:
    """What was done, in words."""
    method, (mean, cohort) = systems.method, systems.background
    settings = {"mean": "kept" if mean is None else "subtracted"}
    if cohort is not None:
        settings["as-norm"] = f"{method.cohort}, {count_noun(len(cohort), 'member')}, the {method.top_n} nearest count"
    if systems.backend is not None:
        settings["back-end"] = systems.backend.description
    if dev:
        features = ", ".join(next(iter(calibrations.values())).features)
        settings["calibration"] = f"on {method.calibrate}, {count_noun(len(dev.target), 'trial')}, by {features}"
    if method.enrol_map is not None:
        settings["enrolment"] = f"{method.enrol_map}, mean of the {method.average}"
    return settings


def _measure(
    read: Lists,
    scored: _Scored,
    in_files: Mapping[str, Mapping[str, Scores]],
    measuring: Measuring,
    notes: Sequence[str],
) -> Evaluation:
    """Error rates of every list, for the systems that were scored here and those in files."""
    of_models = None if read.models is None else model_metadata(read.known, read.models)
    evaluations = []
    for name, part in read.trials.items():
        systems = {**scored.systems.get(name, {}), **in_files[name]}
        evaluations.append(evaluate_list(name, part, systems, known=read.known, models=of_models, measuring=measuring))
    resamples = f"{measuring.replicates:,} resamples of the speakers, seed {measuring.seed}"
    return Evaluation(
        lists=tuple(evaluations),
        settings={**scored.settings, "intervals": f"95 %, {resamples}" if measuring.replicates else "none"},
        notes=tuple(notes),
        calibrations=scored.calibrations,
        embeddings=scored.embeddings,
        utt2spk={**read.known.utt2spk, **(of_models.utt2spk if of_models else {})},
    )


def _read_scores(files: ScoreFiles, trials: Trials) -> dict[str, Scores]:
    systems: dict[str, Scores] = {}
    for path in files.paths:
        _refuse_name(path, systems)
        name = check_id(path.stem, "The name of the file of scores")
        systems[name] = Scores(read_scores(path, trials), files.are_llr)
    return systems


def _refuse_name(path: Path, taken: Collection[str]) -> None:
    if path.stem in taken:
        raise UserError(f"{path}: another system is also called {path.stem!r}; rename the file.")


def _select(systems: Mapping[str, Scores], before: Trials, after: Trials) -> dict[str, Scores]:
    """Scores of the trials that are left after some of the recordings turned out not to be usable."""
    if len(after.target) == len(before.target):
        return dict(systems)
    left = {*zip(after.enrol, after.test, strict=True)}
    rows = np.array([pair in left for pair in zip(before.enrol, before.test, strict=True)], np.bool_)
    return {name: own._replace(values=own.values[rows]) for name, own in systems.items()}
