"""Commands that look at shards: verify, inspect, leaks."""

from pathlib import Path

import click

from data_prep.build_options import COUNT, FOLDER
from data_prep.inspect_shards import draw, statistics
from data_prep.leaks import leaks_of_shards
from data_prep.ordered_map import num_cores
from data_prep.verify_shards import damage
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.errors import UserError


@click.command()
@click.argument("directory", type=FOLDER)
@click.option("--num-workers", type=COUNT, default=num_cores, show_default="all cores", help="Processes.")
@click.option("--progress/--no-progress", default=True, help="Show progress bars.")
def verify(directory: Path, num_workers: int, progress: bool) -> None:
    """Read every byte of the shards in DIRECTORY again: checksums, every record, every value. Names what is damaged."""
    problems = damage(directory, num_workers=num_workers, progress=progress)
    if problems:
        shown = "".join(f"\n  {problem}" for problem in problems[:50])
        more = f"\n  and {len(problems) - 50} more" if len(problems) > 50 else ""
        raise UserError(f"{directory}: {len(problems)} problems:{shown}{more}")
    shards = open_shards(directory)
    click.echo(f"{directory}: {len(shards):,} utterances in {len(shards.info.files)} files are as they were written.")


@click.command()
@click.argument("directory", type=FOLDER)
@click.option("--output", type=FOLDER, help="Write a picture here, a PNG: random fbanks and histograms.")
@click.option("--seed", default=0, help="Of the choice of fbanks.")
def inspect(directory: Path, output: Path | None, seed: int) -> None:
    """Say what is in the shards in DIRECTORY: utterances, speakers, hours, lengths, noise, bytes."""
    shards = open_shards(directory)
    click.echo(statistics(shards))
    if output is not None:
        draw(shards, output, seed=seed)
        click.echo(f"\nSee {output}.")


@click.command()
@click.argument("train", type=FOLDER)
@click.argument("evaluation", type=FOLDER)
@click.option("--strict", is_flag=True, help="End with an error if anything is shared.")
def leaks(train: Path, evaluation: Path, strict: bool) -> None:
    """Find speakers and utterances of EVALUATION, shards, that are in TRAIN, shards or a work directory, as well."""
    notes = leaks_of_shards(train, evaluation)
    if strict and notes:
        raise UserError(" ".join(notes))
    click.echo("\n".join(notes) if notes else f"{evaluation} shares no speaker and no utterance with {train}.")
