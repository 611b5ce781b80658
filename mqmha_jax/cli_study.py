"""The command ``study``: controlled comparisons that end in a table."""

import sys
from pathlib import Path

import click

from mqmha_jax.command_line import PATH, FiniteRange, SectionedCommand


@click.command(cls=SectionedCommand, arguments={"STUDY": "Python file with the factors, levels and seeds."})
@click.argument("study", type=PATH)
@click.option("--workdir", type=PATH, required=True, help="Directory of the study; finished runs in it are kept.")
@click.option("--scale", help="Scale of the study, such as small or full, if the file defines several.")
@click.option("--data", type=PATH, multiple=True, help="Directory to search for shards and lists; may be repeated.")
@click.option("--minutes", type=FiniteRange(0, 1e6, min_open=True), help="Minutes per run; overrides the study.")
@click.option("--replicates", type=click.IntRange(1), default=1000, help="Bootstrap resamples of speakers and seeds.")
@click.option("--quiet", is_flag=True, help="Show no progress bars.")
def study(
    study: Path,
    workdir: Path,
    scale: str | None,
    data: tuple[Path, ...],
    minutes: float | None,
    replicates: int,
    quiet: bool,
) -> None:
    """Train and compare the variants that a study file names.

    The same command resumes an interrupted study. Exits with status 1 if a run failed.
    """
    from mqmha_jax.compilation_cache import use_compilation_cache

    use_compilation_cache()
    from mqmha_jax.parallel import describe_devices
    from mqmha_jax.study.plan import make_plan
    from mqmha_jax.study.spec import load_study
    from mqmha_jax.study.study import describe_findings, run_study
    from mqmha_jax.train.signals import stop_status

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
        click.echo("\n" + "\n".join(describe_findings(outcome.findings)))
        click.echo(f"\nThe report is in {workdir / 'report' / 'report.md'}, with pictures in report.html beside it.")
    for name, why in outcome.ended.failed.items():
        click.echo(f"Failed: {name}: {why}", err=True)
    if outcome.ended.stopped:
        click.echo("Stopped. Run the same command again to resume.")
        sys.exit(stop_status())
    if outcome.ended.failed:
        sys.exit(1)
