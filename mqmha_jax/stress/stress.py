"""A stress test from beginning to end: find the recordings, embed them under each condition, score, measure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mqmha_jax.data.ids import check_id
from mqmha_jax.data.infer_speakers import infer_speakers
from mqmha_jax.data.lists import check_trials, read_trials
from mqmha_jax.data.metadata import NOTHING_KNOWN, Metadata
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.audio_source import AudioFolder, AudioSource
from mqmha_jax.evaluation.list_checks import note_left_out, note_unused_metadata
from mqmha_jax.evaluation.lists import Lists, leave_out
from mqmha_jax.evaluation.numbers import require_direction
from mqmha_jax.evaluation.scoring.cosine import cosine_scores
from mqmha_jax.evaluation.scoring.units import centre
from mqmha_jax.features.audio_folder import audio_files
from mqmha_jax.json_file import seal_of
from mqmha_jax.runs.checkpoint_directory import Step
from mqmha_jax.runs.manifest import identify_checkpoint
from mqmha_jax.say import Say, say_nothing
from mqmha_jax.stress.changed_recordings import ChangedRecordings
from mqmha_jax.stress.conditions import CLEAN, choose_conditions, explain_absence
from mqmha_jax.stress.kept import KeptEmbeddings, fingerprint_files
from mqmha_jax.stress.measure import average_lists, measure_list
from mqmha_jax.stress.plan import EVERYTHING, Side, StressPlan
from mqmha_jax.stress.results import StressTest
from mqmha_jax.types import Embeddings, Trials


def run_stress(
    workdir: Path,
    folder: AudioFolder,
    lists: Sequence[Path],
    directory: Path,
    plan: StressPlan = EVERYTHING,
    *,
    known: Metadata = NOTHING_KNOWN,
    step: Step = None,
    progress: bool = True,
    say: Say = say_nothing,
) -> StressTest:
    """Measures a run's network under conditions; a folder keeps the embeddings for later calls.

    Args:
      workdir: of the run.
      folder: with the recordings that the lists name.
      lists: trial lists, at least one.
      directory: for the embeddings.
      plan: what is tested.
      known: speakers; where it has none, the lists tell them.
      step: of the checkpoint; "best": with the lowest dev EER, None: the newest.
      progress: show progress bars.
      say: receives a sentence for each condition and whatever is doubtful.

    Raises:
      UserError: run, recordings or lists are missing or do not fit together, a condition is unknown, none can be
        tested, or the folder belongs to another test.
    """
    conditions = choose_conditions(plan.conditions)
    everything = _read_lists(lists, known)
    trials = [*everything.trials.values()]
    ids = [*dict.fromkeys(name for part in trials for side in (part.enrol, part.test) for name in side)]
    for note in note_unused_metadata(known, everything):
        say(f"Warning: {note}")
    utt2spk = dict(known.utt2spk) or infer_speakers(trials)
    source = AudioSource(workdir, folder, ids, utt2spk, step=step, progress=progress, say=say)
    read = leave_out(everything, source.left_out)
    for name, part in read.trials.items():
        for note in check_trials(part, source.utterances, name=name):
            say(f"Warning: {note}")
    absent = {}
    for name, condition in conditions.items():
        if why := explain_absence(condition, has_rooms=plan.rooms is not None):
            absent[name] = why
            say(f"{name} is left out: {why}.")
    chosen = {name: condition for name, condition in conditions.items() if name not in absent}
    if absent and chosen.keys() == {CLEAN}:  # a table without a condition would replace the earlier one
        reasons = ", ".join(f"{name} ({why})" for name, why in absent.items())
        raise UserError(f"None of the --conditions can be tested: {reasons}.")
    kept = KeptEmbeddings(directory, _describe_setup(workdir, source, folder, utt2spk, plan))
    clean, read = _embed_clean(source, kept, read)
    mean = source.background(None, use_mean=plan.use_mean).mean
    tests = {name for part in read.trials.values() for name in part.test}
    wanted = [name for name in clean.ids if plan.side == "both" or name in tests]
    changed = ChangedRecordings(source, clean.ids, plan)
    scores: dict[str, dict[str, np.ndarray]] = {name: {} for name in read.trials}
    for number, (name, condition) in enumerate(chosen.items(), start=1):
        title = f"{number}/{len(chosen)} {name}"
        heard = clean if name == CLEAN else kept.read(name, wanted)
        if heard is None:
            heard = changed.embed(wanted, name, condition, title=title)
            kept.write(name, heard)
        for of_list, own in _score(clean, heard, read.trials, mean, plan.side).items():
            scores[of_list][name] = own
        say(f"{title}: {condition.title}.")
    measured = [
        measure_list(name, part, scores[name], utt2spk, replicates=plan.replicates, seed=plan.seed)
        for name, part in read.trials.items()
    ]
    return StressTest(
        lists=tuple(one.result for one in measured),
        mean=average_lists(measured, seed=plan.seed) if len(measured) > 1 else None,
        absent=absent,
        settings=_describe(source, plan, mean is not None, bool(known.utt2spk)),
        notes=tuple(note_left_out(everything, read)),
    )


def _read_lists(lists: Sequence[Path], known: Metadata) -> Lists:
    trials = {check_id(path.stem, "The name of the trial list"): read_trials(path) for path in lists}
    if not trials or len(trials) < len(lists):
        reason = "Two trial lists have the same file name; rename one." if trials else "There is no trial list."
        raise UserError(f"{reason} A stress test needs lists of different names: --trials FILE.")
    return Lists(trials, {}, None, known)


def _describe_setup(
    workdir: Path, source: AudioSource, folder: AudioFolder, utt2spk: Mapping[str, str], plan: StressPlan
) -> dict[str, str | int | None]:
    """Everything that determines the embeddings of a condition."""

    def fingerprint(path: Path | None) -> str | None:
        if path is None:
            return None
        return fingerprint_files([(str(file.relative_to(path)), file) for file in audio_files(path)])

    return {
        "version": 2,
        "network": identify_checkpoint(workdir, source.step),
        "recordings": fingerprint_files([*source.paths.items()]),
        "speakers": seal_of(dict(utt2spk)),  # others babble
        "channel": folder.channel,
        "seed": plan.seed,
        "noise": fingerprint(plan.noise),
        "rooms": fingerprint(plan.rooms),
    }


def _embed_clean(source: AudioSource, kept: KeptEmbeddings, read: Lists) -> tuple[Embeddings, Lists]:
    """Embeds the recordings as they are, and drops the trials of those that cannot be used."""
    wanted = {name for part in read.trials.values() for side in (part.enrol, part.test) for name in side}
    clean = kept.read(CLEAN, wanted)
    if clean is None:
        clean = source.embeddings(wanted)
        kept.write(CLEAN, clean)
    require_direction(clean.vectors, clean.ids)
    return clean, leave_out(read, source.left_out)


def _score(
    clean: Embeddings, heard: Embeddings, lists: Mapping[str, Trials], mean: Float[np.ndarray, " E"] | None, side: Side
) -> dict[str, Float[np.ndarray, " M"]]:
    """Cosines of every list; with side "test" the enrolment sides are clean."""
    enrolled = centre(clean, mean) if side == "test" else None
    tested = centre(heard, mean)
    return {name: np.asarray(cosine_scores(tested, part, models=enrolled)) for name, part in lists.items()}


def _describe(source: AudioSource, plan: StressPlan, has_mean: bool, has_metadata: bool) -> dict[str, str]:
    resamples = f"95 %, {plan.replicates:,} resamples of the speakers, seed {plan.seed}"
    return {
        "embeddings": source.name,
        "scores": f"cosine, mean of the training set {'subtracted' if has_mean else 'kept'}",
        "conditions on": "both sides of each trial" if plan.side == "both" else "the test side; the enrolment is clean",
        "noise": str(plan.noise) if plan.noise else "random, with the mean spectrum of the recordings",
        "rooms": str(plan.rooms) if plan.rooms else "none; echoes are decaying noise",
        "speakers": "of the metadata" if has_metadata else "told by the folders and labels of the lists",
        "intervals": resamples if plan.replicates else "none",
    }
