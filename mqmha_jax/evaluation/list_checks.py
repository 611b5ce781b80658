"""Checks trial lists before scoring: refuses what cannot be evaluated, and reports what makes the numbers too good."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mqmha_jax.data.lists import check_trials
from mqmha_jax.data.metadata import Metadata
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.evaluation.embeddings.sources import EmbeddingSource
from mqmha_jax.evaluation.leaks import shared_speakers, shared_utterances
from mqmha_jax.evaluation.lists import Lists, utterances_of
from mqmha_jax.evaluation.metrics.results import ListEvaluation
from mqmha_jax.evaluation.scoring.method import Method
from mqmha_jax.say import Say


def check_score_lists(lists: Lists, method: Method, *, any_scores: bool) -> list[str]:
    """Checks lists that only files of scores are measured on.

    Returns:
      Notes, a sentence each.

    Raises:
      UserError: there are no scores, a list cannot be evaluated, or the method needs embeddings.
    """
    if not any_scores:
        raise UserError("Nothing to evaluate: give a work directory, --embeddings or --scores.")
    for option, given in (
        ("--as-norm", method.cohort),
        ("--calibrate", method.calibrate),
        ("--backend", method.backend.fitted_on),
    ):
        if given:
            raise UserError(f"{option} needs embeddings: give a work directory or --embeddings beside --scores.")
    notes = []
    for name, part in lists.trials.items():
        notes += check_trials(part, {*part.test}, known_models={*part.enrol}, name=name)
    return notes


def check_lists(source: EmbeddingSource, lists: Lists, method: Method) -> list[str]:
    """Checks lists against the source of their embeddings and against each other.

    Returns:
      Notes on what makes the numbers doubtful, a sentence each.

    Raises:
      UserError: a list cannot be evaluated, e.g. because it names an utterance that the source does not have.
    """
    everything = {**lists.trials, **lists.calibration}
    speaker_of = lists.known.utt2spk
    utterances = {name: utterances_of(part, lists.models) for name, part in everything.items()}
    speakers = {name: {speaker_of[one] for one in own if one in speaker_of} for name, own in utterances.items()}
    # Utterances with a speaker are compared by the speaker; a second note on them would say the same.
    nameless = {name: own - speaker_of.keys() for name, own in utterances.items()}
    trained = set(source.training_utterances())
    notes = []
    for name, part in everything.items():
        notes += check_trials(part, source.utterances, known_models=lists.models, name=name)
        notes += shared_utterances(name, utterances[name], trained, "the training set")
    notes += _note_training_speakers(speakers, nameless, source.training_speakers, [*lists.calibration])
    return notes + _note_fitted_speakers(speakers, nameless, source, method)


def note_unused_metadata(known: Metadata, lists: Lists) -> list[str]:
    """Says that the user's metadata have no effect, because none of their ids is in a list."""
    ids = known.utt2spk.keys() | {utterance for values in known.columns.values() for utterance in values}
    if not ids:  # lists have millions of lines
        return []
    named = {utterance for model in (lists.models or {}).values() for utterance in model}
    for part in (*lists.trials.values(), *lists.calibration.values()):
        named.update(part.enrol, part.test)
    if ids & named:
        return []
    return [
        f"The metadata have no effect: none of their ids, such as {min(ids)!r}, is in a trial list, which has ids such "
        f"as {min(named)!r}. Write both alike."
    ]


def note_left_out(before: Lists, after: Lists) -> list[str]:
    """Reports for each list the number of trials that are left out because their recordings are not usable."""
    kept = {**after.trials, **after.calibration}
    notes = []
    for name, part in {**before.trials, **before.calibration}.items():
        total = len(part.target)
        if lost := total - len(kept[name].target):
            notes.append(f"{name}: {lost:,} of {total:,} trials lack a usable recording and are left out.")
    return notes


def note_reversed(lists: Sequence[ListEvaluation], files: Mapping[str, Path]) -> list[str]:
    """Says which files of scores are worse than guessing, probably because a distance is higher for other speakers."""
    return [
        f"{files[system.name]}: its EER on {part.name} is {eer:.1%}, worse than guessing. Scores must be higher for "
        "the same speaker; if these are distances, change their sign."
        for part in lists
        for system in part.systems
        if system.name in files and (eer := system.metrics["EER"].value) > 0.5
    ]


def fit_top_n(method: Method, source: EmbeddingSource, say: Say) -> Method:
    """Lowers ``top_n`` to the size of a smaller cohort, with a sentence to the user.

    Raises:
      UserError: the cohort cannot be read, or has fewer than two members.
    """
    if method.cohort is None:
        return method
    size = len(source.speakers_at(method.cohort))
    if size < 2:
        raise UserError(f"The cohort {method.cohort} has {count_noun(size, 'member')}; AS-norm needs at least 2.")
    if method.top_n > size:
        say(f"The cohort {method.cohort} has {size} members; all of them are used (--top-n {method.top_n}).")
    return method._replace(top_n=min(method.top_n, size))


def _note_training_speakers(
    speakers: Mapping[str, set[str]],
    nameless: Mapping[str, set[str]],
    trained: Sequence[str],
    calibration_lists: Sequence[str],
) -> list[str]:
    """Speakers, and utterances without one, that flatter the numbers because network or calibration have seen them."""
    notes = []
    for name, own in speakers.items():
        flattered = (
            "its calibration is too sure" if name in calibration_lists else "the numbers look better than they are"
        )
        notes += shared_speakers(name, own, trained, f"the training set: {flattered}")
        for other in calibration_lists:
            if name != other:
                shared = "the calibration list: calibrated numbers look better than they are"
                notes += shared_speakers(name, own, speakers[other], shared)
                notes += shared_utterances(name, nameless[name], nameless[other], shared)
    return notes


def _note_fitted_speakers(
    speakers: Mapping[str, set[str]], nameless: Mapping[str, set[str]], source: EmbeddingSource, method: Method
) -> list[str]:
    """Speakers, and utterances without one, that the cohort or the back-end has seen."""
    notes = []
    for path, where in (
        (method.cohort, "the cohort: take other speakers"),
        (method.backend.fitted_on, "the back-end's data: its numbers look better than they are"),
    ):
        if path is None:
            continue
        fitted = source.speakers_at(path)
        heard = source.utterances_at(path) if any(nameless.values()) else ()
        for name, own in speakers.items():
            notes += shared_speakers(name, own, fitted, where)
            notes += shared_utterances(name, nameless[name], heard, where)
    return notes
