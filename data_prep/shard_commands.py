"""Commands that look at shards: verify, inspect, leaks. Libraries are imported inside, so that ``--help`` is fast."""

from pathlib import Path

import click

from data_prep.build_options import COUNT
from data_prep.ordered_map import num_cores
from mqmha_jax.command_line import PATH, SectionedCommand
from mqmha_jax.errors import UserError, count_noun, printable

MAX_SHOWN = 50
"""Problems that are listed one by one."""


@click.command(cls=SectionedCommand, arguments={"SHARDS": "Directory of shards."})
@click.argument("directory", metavar="SHARDS", type=PATH)
@click.option("--num-workers", type=COUNT, default=num_cores, show_default="all cores", help="Worker processes.")
@click.option("--progress/--no-progress", default=True, help="Show progress bars.")
def verify(directory: Path, num_workers: int, progress: bool) -> None:
    """Check that shards have not changed since they were written.

    Reads every byte and checks checksums, records and values. Names all damage.
    """
    from data_prep.verify_shards import find_damage
    from mqmha_jax.data.shard_reader import open_shards

    problems = find_damage(directory, num_workers=num_workers, progress=progress)
    if problems:
        shown = "".join(f"\n  {problem}" for problem in problems[:MAX_SHOWN])
        more = f"\n  and {len(problems) - MAX_SHOWN} more" if len(problems) > MAX_SHOWN else ""
        raise UserError(f"{directory}: {len(problems)} problems:{shown}{more}")
    shards = open_shards(directory)
    contents = f"{count_noun(len(shards), 'utterance')} in {count_noun(len(shards.info.files), 'file')}"
    click.echo(f"{directory}: {contents}, all as they were written.")


@click.command(cls=SectionedCommand, arguments={"SHARDS": "Directory of shards."})
@click.argument("directory", metavar="SHARDS", type=PATH)
@click.option(
    "--picture",
    "--output",
    "picture",
    type=PATH,
    metavar="FILE.png",
    help="Also draw spectrograms of random utterances, and histograms.",
)
@click.option("--seed", type=COUNT, default=0, help="Seed of the choice of utterances.")
def inspect(directory: Path, picture: Path | None, seed: int) -> None:
    """Summarise shards: speakers, hours, lengths, quality, size."""
    from data_prep.inspect_shards import draw, statistics
    from mqmha_jax.data.shard_reader import open_shards
    from mqmha_jax.runs.run_files import check_output_file

    shards = open_shards(directory)
    if picture is not None:
        check_output_file(picture)
    click.echo(statistics(shards))
    if picture is not None:
        draw(shards, picture, seed=seed)
        click.echo(f"\nThe picture is in {picture}.")


@click.command(
    cls=SectionedCommand,
    arguments={"TRAIN": "Shards, or the work directory of a run.", "EVALUATION": "Shards."},
)
@click.argument("train", type=PATH)
@click.argument("evaluation", type=PATH)
@click.option("--strict", is_flag=True, help="Fail if anything is shared.")
def leaks(train: Path, evaluation: Path, strict: bool) -> None:
    """Find speakers and utterances that two sets share."""
    from data_prep.leaks import leaks_of_shards

    notes = leaks_of_shards(train, evaluation)
    if strict and notes:
        raise UserError(" ".join(notes))
    click.echo(
        printable("\n".join(notes)) if notes else f"{evaluation} shares no speaker and no utterance with {train}."
    )
