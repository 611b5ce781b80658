"""The commands about trials: evaluate, compare, make-trials, import-trials."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

_PATH = click.Path(path_type=Path)
_COST = click.FloatRange(min=0, min_open=True)


class _Step(click.ParamType):
    """A step, or the word "best"."""

    name = "integer|best"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        return "best" if value == "best" else click.INT.convert(value, param, ctx)


def _backend_options(command: Callable[..., None]) -> Callable[..., None]:
    """One option for each field of ``BackendPlan``."""
    options = [
        click.option(
            "--backend",
            "fitted_on",
            type=_PATH,
            help="Shards to fit --whiten, --lda, --plda on, such as those of the training; with --embeddings: a file.",
        ),
        click.option(
            "--whiten", type=click.Choice(["zca", "pca", "none"]), default="none", help="Back-end: whitening."
        ),
        click.option("--lda", type=click.IntRange(1), help="Back-end: size to which LDA reduces the embeddings."),
        click.option("--plda", is_flag=True, help="Back-end: score by PLDA as well."),
        click.option(
            "--backend-utterances",
            "per_speaker",
            type=click.IntRange(2),
            default=20,
            help="At most so many utterances of each speaker, evenly spaced, are fitted on.",
        ),
        click.option(
            "--shrinkage",
            type=click.FloatRange(0, 1),
            default=0.0,
            help="Move the covariances of whitening and LDA so far towards the identity; for few utterances.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("workdir", type=_PATH, required=False)
@click.option(
    "--data",
    type=_PATH,
    multiple=True,
    help="Shards with the utterances of the lists; may be repeated.  [default: the run's dev shards]",
)
@click.option(
    "--trials", "lists", type=_PATH, multiple=True, help="Trial list; may be repeated.  [default: the run's dev list]"
)
@click.option(
    "--embeddings",
    type=_PATH,
    multiple=True,
    help="Instead of WORKDIR: embeddings from an .npz of 'mqmha embed', a Kaldi .ark or .scp, or a folder of .npy.",
)
@click.option(
    "--scores",
    type=_PATH,
    multiple=True,
    help="File of scores, 'enrol test score' or 'score' a line, as a further system; may be repeated.",
)
@click.option("--llr", is_flag=True, help="The files of scores hold natural-log likelihood ratios.")
@click.option("--metadata", type=_PATH, help="CSV with columns utterance, speaker and others, or utt2spk.")
@click.option(
    "--as-norm",
    "cohort",
    type=_PATH,
    help="Shards for adaptive score normalisation, e.g. those of the training; with --embeddings, such a file.",
)
@click.option("--top-n", type=int, default=300, help="Cohort members that normalise a score, the nearest ones.")
@click.option("--calibrate", type=_PATH, help="Trial list to calibrate on, of speakers that are in no other list.")
@click.option("--calibrate-data", type=_PATH, help="Shards (or embeddings) of its utterances, if not among the others.")
@click.option("--quality", is_flag=True, help="Calibrate on durations, norms and cohort scores as well (QMF).")
@click.option("--enrol-map", type=_PATH, help="File 'model utterance ...': what the enrolment sides of the lists name.")
@click.option(
    "--average",
    type=click.Choice(["embeddings", "scores"]),
    default="embeddings",
    help="What is averaged over the utterances of a model.",
)
@_backend_options
@click.option("--no-mean", is_flag=True, help="Do not subtract the mean embedding of the training set (or cohort).")
@click.option(
    "--p-target",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    multiple=True,
    help="Further prior probability of a target for minDCF; may be repeated.",
)
@click.option("--costs", nargs=2, type=_COST, default=(1.0, 1.0), help="Costs of a miss and a false alarm there.")
@click.option(
    "--replicates", type=click.IntRange(0), default=1000, help="Resamples of the speakers for intervals; 0: none."
)
@click.option("--seed", type=int, default=0, help="Of the resamples.")
@click.option("--step", type=_Step(), help="Which checkpoint: a step, or best.  [default: the newest]")
@click.option("--strict", is_flag=True, help="Refuse lists with speakers that were trained on, or repeated trials.")
@click.option("--output", type=_PATH, help="Where the results go.  [default: WORKDIR/evaluation]")
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
    no_mean: bool,
    p_target: tuple[float, ...],
    costs: tuple[float, float],
    replicates: int,
    seed: int,
    step: int | Literal["best"] | None,
    strict: bool,
    output: Path | None,
    **backend: Any,
) -> None:
    """Error rates with intervals, a report to look at, a threshold and a calibration for 'verify'.

    Of the run in WORKDIR, of --embeddings, or of --scores alone.
    """
    from mqmha_jax.compilation_cache import use_compilation_cache

    use_compilation_cache()
    from mqmha_jax.data.metadata import NOTHING_KNOWN, read_metadata
    from mqmha_jax.errors import UserError
    from mqmha_jax.evaluation.embeddings.file_source import FileSource
    from mqmha_jax.evaluation.evaluate_lists import ScoreFiles, evaluate_lists
    from mqmha_jax.evaluation.evaluate_run import evaluate_run
    from mqmha_jax.evaluation.metrics.measure_list import Measuring, OperatingPoint
    from mqmha_jax.evaluation.report.tables import result_tables, write_evaluation
    from mqmha_jax.evaluation.scoring.backend import BackendPlan
    from mqmha_jax.evaluation.scoring.method import Method

    if workdir and embeddings:
        raise UserError("WORKDIR and --embeddings were both given; evaluate one after the other, with two --output.")
    if not workdir and output is None:
        raise UserError("Without WORKDIR, --output says where the results go; give --output DIR.")
    if not workdir and (data or step is not None):
        raise UserError("--data and --step belong to the run in a WORKDIR, and none was given.")
    output = output or workdir / "evaluation"  # type: ignore[operator]  # one of the two was given
    known = read_metadata(metadata) if metadata else NOTHING_KNOWN
    further = (calibrate_data,) if calibrate_data else ()
    method = Method(cohort, top_n, not no_mean, calibrate, quality, enrol_map, average, BackendPlan(**backend))
    rest: dict[str, Any] = {
        "known": known,
        "score_files": ScoreFiles(scores, llr),
        "measuring": Measuring([OperatingPoint(p, *costs) for p in p_target], replicates, seed),
        "strict": strict,
    }
    if workdir:
        evaluation = evaluate_run(
            workdir, data=data, calibrate_data=further, lists=lists, method=method, step=step, **rest
        )
    else:
        source = FileSource((*embeddings, *further), known) if embeddings else None
        evaluation = evaluate_lists(source, lists, method, **rest)
    for note in evaluation.notes:
        click.echo(f"Warning: {note}", err=True)
    write_evaluation(output, evaluation, title=workdir.name if workdir else "Evaluation")
    click.echo(result_tables(evaluation.lists))
    click.echo(f"\nReport, tables and scores are in {output}; to look at: {output / 'report.html'}")


@click.command()
@click.argument("first", type=_PATH, required=False)
@click.argument("others", type=_PATH, nargs=-1)
@click.option("--a", "a_files", type=_PATH, multiple=True, help="Another seed of system A, or the first; repeatable.")
@click.option("--b", "b_files", type=_PATH, multiple=True, help="Another seed of system B, or the first; repeatable.")
@click.option("--system", help="Which system of the evaluations, e.g. as-norm.  [default: the first]")
@click.option("--system-b", help="Which system of B's.  [default: as --system]")
@click.option("--replicates", type=click.IntRange(1), default=1000, help="Resamples of the speakers.")
@click.option("--seed", type=int, default=0, help="Of the resamples.")
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
    """Is system B better than system A, and how sure is that?

    FIRST is the evaluation of A (metrics.json of 'mqmha evaluate', or its directory), OTHERS those of the systems that
    are held against it, one after the other. Systems trained with several seeds: --a A1 --a A2 --b B1 --b B2.
    """
    from mqmha_jax.errors import UserError
    from mqmha_jax.evaluation.report.compare_files import SystemFile, compare_files, comparison_text

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
        click.echo(comparison_text(comparisons, _called(a, system), _called(b, system_b or system)) + "\n")


@click.command("make-trials")
@click.argument("data", type=_PATH)
@click.argument("output", type=_PATH)
@click.option("--session", default="session", help="Column with the session; targets pair different ones.")
@click.option("--gender", default="gender", help="Column with the gender; nontargets pair equal ones.")
@click.option("--per-speaker", type=click.IntRange(1), default=200, help="At most so many trials of each kind.")
@click.option("--seed", type=int, default=0, help="Of the draw.")
@click.option("--not-in", type=_PATH, help="Work directory or shards of the training; shared speakers are refused.")
def make_trials(
    data: Path, output: Path, session: str, gender: str, per_speaker: int, seed: int, not_in: Path | None
) -> None:
    """Draw a trial list for your own DATA (shards, or a CSV with columns utterance and speaker) into OUTPUT."""
    from data_prep.trials import own_trials, write_trials

    trials, said = own_trials(data, session=session, gender=gender, per_speaker=per_speaker, seed=seed, not_in=not_in)
    write_trials(output, trials)
    click.echo(f"{output}: {said}")


@click.command("import-trials")
@click.argument("form", type=click.Choice(["voxceleb", "cnceleb", "voxsrc"]))
@click.argument("official", type=_PATH)
@click.argument("output", type=_PATH)
@click.option("--enrol-list", type=_PATH, help="CN-Celeb: its enroll.lst.  [default: beside the list]")
@click.option("--enrol-map", type=_PATH, help="CN-Celeb: its enroll.map.  [default: beside the list, if it is there]")
@click.option("--suffix", help="Ending of your audio files where it is another than the list's, e.g. .flac.")
def import_trials(
    form: str, official: Path, output: Path, enrol_list: Path | None, enrol_map: Path | None, suffix: str | None
) -> None:
    """Check an OFFICIAL trial list and write it to OUTPUT with ids of utterances.

    Of CN-Celeb also OUTPUT.map: the utterances of each enrolment, for 'mqmha evaluate --enrol-map'.
    """
    from data_prep.official_lists import import_official, write_models
    from data_prep.trials import write_trials
    from mqmha_jax.errors import UserError

    if form != "cnceleb" and (enrol_list or enrol_map):
        raise UserError(f"--enrol-list and --enrol-map belong to CN-Celeb; leave them out with {form}.")
    trials, models, said = import_official(form, official, enrol_list=enrol_list, enrol_map=enrol_map, suffix=suffix)
    write_trials(output, trials)
    click.echo(f"{output}: {said}")
    if models:
        map_path = output.with_name(f"{output.name}.map")
        write_models(map_path, models)
        click.echo(f"{map_path}: what {len(models):,} enrolments are made of, for 'mqmha evaluate --enrol-map'.")


def _called(paths: list[Path], system: str | None) -> str:
    return ", ".join(map(str, paths)) + (f" ({system})" if system else "")
