"""The command ``study``: controlled comparisons that end in a table."""

import sys
from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("study", type=_PATH)
@click.option("--workdir", type=_PATH, required=True, help="Directory of the study; what is there already is kept.")
@click.option("--scale", help="Which scale of the study, e.g. small or full, where the file has several.")
@click.option(
    "--data", type=_PATH, multiple=True, help="Directory in which shards and lists are looked for; may be repeated."
)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Per run, instead of the study's budget.")
@click.option("--replicates", type=click.IntRange(1), default=1000, help="Resamples of speakers and seeds.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def study(
    study: Path,
    workdir: Path,
    scale: str | None,
    data: tuple[Path, ...],
    minutes: float | None,
    replicates: int,
    quiet: bool,
) -> None:
    """Train and compare what the file STUDY names: factors, levels, seeds.

    Runs that are finished stay; the same command goes on where an earlier one stopped. Exits with 1 where runs failed.
    """
    from mqmha_jax.compilation_cache import use_compilation_cache

    use_compilation_cache()
    from mqmha_jax.parallel import describe_devices
    from mqmha_jax.study.load import load_study
    from mqmha_jax.study.plan import make_plan
    from mqmha_jax.study.study import readings, run_study

    chosen = load_study(study, scale)
    plan = make_plan(chosen, data or (Path(),))
    click.echo(f"{len(plan.cells)} cells, {plan.num_runs} runs on {describe_devices()}.")
    outcome = run_study(
        plan,
        workdir,
        title=f"Study {study.stem}" + (f", scale {scale}" if scale else ""),
        say=click.echo,
        minutes=minutes,
        replicates=replicates,
        progress=not quiet,
    )
    if outcome.findings:
        click.echo("\n" + "\n".join(readings(outcome.findings)))
        click.echo(f"\nThe report is in {workdir / 'report' / 'report.md'}; to look at: report.html beside it.")
    for name, why in outcome.ended.failed.items():
        click.echo(f"Failed: {name}: {why}", err=True)
    if outcome.ended.stopped:
        click.echo("Stopped; the same command goes on from there.")
        sys.exit(128 + 15)
    if outcome.ended.failed:
        sys.exit(1)
