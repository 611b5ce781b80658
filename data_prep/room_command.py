"""The command ``room-table``."""

from pathlib import Path

import click

from data_prep.build_options import COUNT
from data_prep.like import read_features
from mqmha_jax.command_line import PATH, SectionedCommand
from mqmha_jax.config import FbankSpec
from mqmha_jax.errors import count_noun

MAX_ROOMS = 2_000
"""More would only fill the memory of the data workers: a decay is 16 kB."""


@click.command(
    "room-table",
    cls=SectionedCommand,
    arguments={"DIRECTORY": "Folder of room impulse responses.", "OUTPUT.npz": "The file, for augment.rooms."},
)
@click.argument("directory", type=PATH)
@click.argument("output", metavar="OUTPUT.npz", type=PATH)
@click.option(
    "--like",
    type=PATH,
    metavar="CONFIG|RUN|SHARDS",
    show_default="default features",
    help="Features of the training: a configuration, a run or shards.",
)
@click.option("--max-rooms", type=click.IntRange(min=1), default=MAX_ROOMS, help="Draw this many if there are more.")
@click.option("--seed", type=COUNT, default=0, help="Seed of the draw.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
def room_table(directory: Path, output: Path, like: Path | None, max_rooms: int, seed: int, progress: bool) -> None:
    """Measure how rooms decay, for reverberation in training."""
    from data_prep.rooms import make_rooms

    spec = FbankSpec() if like is None else read_features(like)
    number = make_rooms(directory, output, spec=spec, max_rooms=max_rooms, seed=seed, progress=progress)
    click.echo(f"{output}: {count_noun(number, 'room')}.")
