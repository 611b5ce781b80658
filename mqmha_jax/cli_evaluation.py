"""The evaluation commands: evaluate and compare."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from mqmha_jax.command_line import PATH as _PATH
from mqmha_jax.command_line import PROBABILITY, SEED, STEP, FiniteRange, SectionedCommand, allow_code_option

_COST = FiniteRange(0, min_open=True)


def _backend_options(command: Callable[..., None]) -> Callable[..., None]:
    """One option for each field of ``BackendPlan``."""
    options = [
        click.option(
            "--backend",
            "fitted_on",
            type=_PATH,
            help="Shards to fit --whiten, --lda and --plda on, such as the training shards; with --embeddings, a file.",
        ),
        click.option(
            "--whiten", type=click.Choice(["zca", "pca", "none"]), default="none", help="Whiten the embeddings."
        ),
        click.option("--lda", type=click.IntRange(1), help="Reduce the embeddings to this size by LDA."),
        click.option("--plda", is_flag=True, help="Also score by PLDA."),
        click.option(
            "--backend-utterances",
            "per_speaker",
            type=click.IntRange(2),
            default=20,
            help="Maximum number of utterances per speaker to fit on, evenly spaced.",
        ),
        click.option(
            "--shrinkage",
            type=FiniteRange(0, 1),
            default=0.0,
            help="Move the covariances of whitening and LDA this far towards the identity; for few utterances.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    cls=SectionedCommand,
    arguments={"WORKDIR": "Work directory of the run; leave it out with --embeddings or --scores."},
    sections={
        "Data": ("data", "audio", "lists", "embeddings", "scores", "llr", "metadata", "step", "strict", "allow_code"),
        "Recordings": ("channel", "max_rejected"),
        "Scoring": ("cohort", "top_n", "mean_of", "no_mean", "enrol_map", "average"),
        "Calibration": ("calibrate", "calibrate_data", "quality"),
        "Back-end": ("fitted_on", "whiten", "lda", "plda", "per_speaker", "shrinkage"),
        "Measures": ("p_target", "costs", "replicates", "seed"),
        "Output": ("output", "save_threshold"),
    },
)
@click.argument("workdir", type=_PATH, required=False)
@click.option(
    "--data",
    type=_PATH,
    multiple=True,
    show_default="the run's dev shards",
    help="Shards with the utterances of the lists; may be repeated.",
)
@click.option(
    "--audio",
    type=_PATH,
    help="Folder of the recordings in the lists. With --trials and without --data, evaluation embeds them; the "
    "report plays the hardest trials.",
)
@click.option(
    "--trials",
    "lists",
    type=_PATH,
    multiple=True,
    show_default="the run's dev list",
    help="Trial list; may be repeated.",
)
@click.option(
    "--channel", type=click.IntRange(0), show_default="the mean of all", help="Channel of the recordings, from 0."
)
@click.option(
    "--max-rejected",
    type=click.IntRange(0),
    default=0,
    help="Leave out at most this many recordings that are missing or cannot be used, with their trials.",
)
@click.option(
    "--embeddings",
    type=_PATH,
    multiple=True,
    help="Embeddings to score: an .npz of 'mqmha embed', a Kaldi .ark or .scp, or a folder of .npy files.",
)
@click.option(
    "--scores",
    type=_PATH,
    multiple=True,
    help="Scores of any system, one line 'enrol test score' or 'score' per trial; may be repeated.",
)
@click.option("--llr", is_flag=True, help="The scores are log likelihood ratios (natural logarithm).")
@click.option("--metadata", type=_PATH, help="CSV with the columns utterance, speaker and others, or utt2spk.")
@click.option(
    "--as-norm",
    "--cohort",
    "cohort",
    type=_PATH,
    help="Cohort for AS-norm: shards, such as the training shards; with --audio also a folder with a folder per "
    "speaker, or a CSV with path and speaker; with --embeddings, a file.",
)
@click.option(
    "--top-n", type=click.IntRange(2), default=300, help="Number of nearest cohort members that normalise a score."
)
@click.option("--calibrate", type=_PATH, help="Trial list to calibrate on; its speakers must be in no other list.")
@click.option(
    "--calibrate-data",
    type=_PATH,
    help="Shards (or embeddings) with the utterances of --calibrate, if --data lacks them.",
)
@click.option("--quality", is_flag=True, help="Also calibrate on durations, norms and cohort scores (QMF).")
@click.option("--enrol-map", type=_PATH, help="File with lines 'model utterance ...', for lists that enrol models.")
@click.option(
    "--average",
    type=click.Choice(["embeddings", "scores"]),
    default="embeddings",
    help="What to average over the utterances of an enrolled model.",
)
@_backend_options
@click.option(
    "--mean",
    "mean_of",
    type=_PATH,
    show_default="of the cohort, or none",
    help="With --embeddings: embeddings whose mean is subtracted, such as those of training speakers, or a run's "
    "mean_embedding-STEP.npz.",
)
@click.option("--no-mean", is_flag=True, help="Do not subtract the training set's (or cohort's) mean embedding.")
@click.option(
    "--p-target",
    type=PROBABILITY,
    multiple=True,
    help="Additional target prior for minDCF; may be repeated.",
)
@click.option(
    "--costs", nargs=2, type=_COST, default=(1.0, 1.0), help="Costs of a miss and of a false alarm, in all DCFs."
)
@click.option(
    "--replicates", type=click.IntRange(0), default=1000, help="Bootstrap resamples for intervals; 0: no intervals."
)
@click.option("--seed", type=SEED, default=0, help="Seed of the resamples.")
@click.option("--step", type=STEP, show_default="the newest", help="Checkpoint: a step, or best.")
@click.option("--strict", is_flag=True, help="Refuse what is otherwise a warning, such as repeated trials.")
@click.option("--output", type=_PATH, show_default="WORKDIR/evaluation", help="Directory for the results.")
@click.option(
    "--save-threshold",
    is_flag=True,
    help="Save threshold and calibration in WORKDIR, for 'mqmha verify'. With the run's own dev list, always on.",
)
@allow_code_option
def evaluate(
    workdir: Path | None,
    data: tuple[Path, ...],
    lists: tuple[Path, ...],
    embeddings: tuple[Path, ...],
    scores: tuple[Path, ...],
    llr: bool,
    metadata: Path | None,
    cohort: Path | None,
    top_n: int,
    calibrate: Path | None,
    calibrate_data: Path | None,
    quality: bool,
    enrol_map: Path | None,
    average: Literal["embeddings", "scores"],
    mean_of: Path | None,
    no_mean: bool,
    p_target: tuple[float, ...],
    costs: tuple[float, float],
    replicates: int,
    seed: int,
    step: int | Literal["best"] | None,
    strict: bool,
    output: Path | None,
    audio: Path | None,
    channel: int | None,
    max_rejected: int,
    save_threshold: bool,
    **backend: Any,
) -> None:
    """Evaluate a run, embeddings or scores on trial lists.

    Evaluates the run in WORKDIR, --embeddings, or --scores alone. Writes error rates with intervals and a report. The
    run's own dev list, or --save-threshold, also sets the threshold and calibration that 'mqmha verify' uses.
    """
    from tqdm import tqdm

    from mqmha_jax.compilation_cache import use_compilation_cache

    use_compilation_cache()
    from mqmha_jax.data.metadata import NOTHING_KNOWN, read_metadata
    from mqmha_jax.errors import UserError, printable
    from mqmha_jax.evaluation.embeddings.audio_source import AudioFolder
    from mqmha_jax.evaluation.embeddings.file_source import FileSource
    from mqmha_jax.evaluation.evaluate_lists import ScoreFiles, evaluate_lists, evaluate_run
    from mqmha_jax.evaluation.metrics.measure_list import Measuring
    from mqmha_jax.evaluation.report.html.recordings import Recordings
    from mqmha_jax.evaluation.report.output_files import check_output
    from mqmha_jax.evaluation.report.tables import format_tables, write_evaluation
    from mqmha_jax.evaluation.scoring.backend import BackendPlan
    from mqmha_jax.evaluation.scoring.method import Method
    from mqmha_jax.runs.workdir import read_config

    def say(sentence: str) -> None:
        tqdm.write(printable(sentence), file=sys.stderr)  # above the progress bar

    if workdir and embeddings:
        raise UserError("WORKDIR and --embeddings were both given; evaluate one after the other, with two --output.")
    if not (workdir or embeddings or scores):
        raise UserError("Nothing to evaluate: give the WORKDIR of a run, --embeddings or --scores.")
    if not workdir and output is None:
        raise UserError("Without WORKDIR, --output says where the results go; give --output DIR.")
    if not workdir and (data or step is not None or save_threshold):
        raise UserError("--data, --step and --save-threshold belong to the run in a WORKDIR, and none was given.")
    if mean_of and (no_mean or not embeddings):
        raise UserError("--mean goes with --embeddings and without --no-mean; a run has a mean of its own.")
    embedded = AudioFolder(audio, channel, max_rejected) if workdir and audio and lists and not data else None
    if not embedded and (max_rejected or channel is not None):
        raise UserError("--channel and --max-rejected belong to the recordings that --audio and --trials embed.")
    known = read_metadata(metadata) if metadata else NOTHING_KNOWN
    further = (calibrate_data,) if calibrate_data else ()
    method = Method(cohort, top_n, not no_mean, calibrate, quality, enrol_map, average, BackendPlan(**backend))
    rest: dict[str, Any] = {
        "known": known,
        "score_files": ScoreFiles(scores, llr),
        "measuring": Measuring(p_target, replicates, seed, costs),
        "strict": strict,
        "say": say,
    }
    method.check()
    if workdir:
        read_config(workdir)  # before the output makes a directory there
    output = output or workdir / "evaluation"  # type: ignore[operator]  # one of the two was given
    read = (*data, *lists, *embeddings, *scores, *further, metadata, cohort, calibrate, enrol_map, mean_of)
    inputs = [path for path in (*read, method.backend.fitted_on) if path]
    check_output(output, lists=[path.stem for path in lists], inputs=inputs)
    recordings = Recordings(audio) if audio else None  # refuses what is not a folder, before the work
    if workdir:
        evaluation = evaluate_run(
            workdir,
            data=data,
            audio=embedded,
            calibrate_data=further,
            lists=lists,
            method=method,
            step=step,
            keep=save_threshold or None,
            **rest,
        )
    else:
        source = FileSource((*embeddings, *further), known, mean=mean_of, say=say) if embeddings else None
        evaluation = evaluate_lists(source, lists, method, **rest)
    if recordings and (silence := recordings.explain_silence(evaluation.lists)):
        say(f"Warning: {silence}")
    write_evaluation(output, evaluation, title=_compose_title(workdir, step, embeddings, scores), audio=audio)
    click.echo(printable(format_tables(evaluation.lists)))
    click.echo(f"\nReport, tables and scores are in {output}. Open {output / 'report.html'} in a browser.")


def _compose_title(
    workdir: Path | None, step: int | Literal["best"] | None, embeddings: Sequence[Path], scores: Sequence[Path]
) -> str:
    """What an evaluation is of, for the title of its report."""
    if workdir:
        return workdir.resolve().name + ("" if step is None else f", step {step}")
    return ", ".join(path.name for path in (*embeddings, *scores))


@click.command(
    cls=SectionedCommand,
    arguments={
        "FIRST": "Evaluation of system A: its directory, or the metrics.json in it.",
        "OTHERS": "Evaluations of the systems to compare with A.",
    },
)
@click.argument("first", type=_PATH, required=False)
@click.argument("others", type=_PATH, nargs=-1)
@click.option("--a", "a_files", type=_PATH, multiple=True, help="Evaluation of one seed of system A; may be repeated.")
@click.option("--b", "b_files", type=_PATH, multiple=True, help="Evaluation of one seed of system B; may be repeated.")
@click.option("--system", show_default="the first", help="System of the evaluations, such as as-norm.")
@click.option("--system-b", show_default="as --system", help="System of B's evaluations.")
@click.option("--replicates", type=click.IntRange(1), default=1000, help="Bootstrap resamples of the speakers.")
@click.option("--seed", type=SEED, default=0, help="Seed of the resamples.")
def compare(
    first: Path | None,
    others: tuple[Path, ...],
    a_files: tuple[Path, ...],
    b_files: tuple[Path, ...],
    system: str | None,
    system_b: str | None,
    replicates: int,
    seed: int,
) -> None:
    """Test whether system B is better than system A.

    Each of OTHERS is compared with FIRST. For systems with several seeds: --a A1 --a A2 --b B1 --b B2.
    """
    from mqmha_jax.errors import UserError
    from mqmha_jax.evaluation.report.compare_files import SystemFile, compare_files, format_comparisons

    a = [path for path in (first, *a_files) if path is not None]
    opponents = [[path] for path in others] if not b_files else [[*others, *b_files]]
    if not a or not opponents:
        raise UserError("A comparison needs two systems: mqmha compare A.json B.json, or --a A.json --b B.json.")
    for b in opponents:
        comparisons = compare_files(
            [SystemFile(path, system) for path in a],
            [SystemFile(path, system_b or system) for path in b],
            replicates=replicates,
            seed=seed,
        )
        click.echo(format_comparisons(comparisons, _name_system(a, system), _name_system(b, system_b or system)) + "\n")


def _name_system(paths: list[Path], system: str | None) -> str:
    return ", ".join(map(str, paths)) + (f" ({system})" if system else "")
