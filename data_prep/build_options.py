"""The options that every corpus command takes, in the sections of its help."""

import dataclasses
import typing
from collections.abc import Mapping

import click

from data_prep.ordered_map import num_cores
from data_prep.shard_options import MAX_REJECTED, SHARD_MEGABYTES, TIMEOUT_SECONDS
from data_prep.signature_options import sentence
from data_prep.versions import AUGMENTATIONS
from mqmha_jax.command_line import PATH, FiniteRange
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_coding import Coding

COUNT = click.IntRange(min=0)


def fbank_options() -> list[click.Option]:
    """``--like``, and one option per field of FbankSpec with the field's own name, default and help."""
    options = [
        click.Option(
            ["--like"],
            type=PATH,
            metavar="CONFIG|RUN|SHARDS",
            help="Take the features from a configuration, a run or shards.",
        )
    ]
    types = typing.get_type_hints(FbankSpec)
    for field in dataclasses.fields(FbankSpec):
        choices = typing.get_args(types[field.name])
        name = field.name.replace("_", "-")
        options.append(
            click.Option(
                [f"--{name}/--no-{name}" if types[field.name] is bool else f"--{name}"],
                type=click.Choice(choices) if choices else types[field.name],
                default=field.default,
                help=sentence(field.metadata["help"]),
            )
        )
    return options


def version_options() -> list[click.Option]:
    """The options for versions of each utterance, and for the sounds that they need."""
    return [
        click.Option(["--versions"], default="clean", help=f"Copies of each utterance: {', '.join(AUGMENTATIONS)}."),
        click.Option(
            ["--speeds"], default="1.0", help="Speeds of each copy, 1.0 first; other speeds count as new speakers."
        ),
        click.Option(["--noise"], type=PATH, help="Folder of noises, for the versions with noise."),
        click.Option(["--room-responses"], type=PATH, help="Folder of room impulse responses, for the version reverb."),
        click.Option(["--seed"], type=COUNT, default=0, help="Seed of all random choices."),
    ]


def output_options() -> list[click.Option]:
    """The options for the storage of frames and the rejection of recordings."""
    return [
        click.Option(["--coding"], type=click.Choice(typing.get_args(Coding)), default="float16", help="Storage type."),
        click.Option(
            ["--shard-megabytes"],
            type=FiniteRange(min=0, min_open=True),
            default=SHARD_MEGABYTES,
            help="Approximate size of a file.",
        ),
        click.Option(
            ["--max-rejected"], type=COUNT, default=MAX_REJECTED, help="Stop if more files than this are unusable."
        ),
        click.Option(["--retry-rejected"], is_flag=True, help="Redo finished files that lack recordings."),
        click.Option(
            ["--timeout"],
            type=FiniteRange(min=0, min_open=True),
            default=TIMEOUT_SECONDS,
            metavar="SECONDS",
            help="Reject a recording that takes longer than this.",
        ),
        click.Option(
            ["--min-speech"],
            type=FiniteRange(min=0),
            default=0.0,
            metavar="SECONDS",
            help="Reject a recording with less speech than this.",
        ),
        click.Option(
            ["--max-clipped"],
            type=FiniteRange(0, 1),
            default=1.0,
            metavar="SHARE",
            help="Reject a recording with a larger share of clipped samples.",
        ),
        click.Option(
            ["--not-in"],
            type=PATH,
            multiple=True,
            help="Shards or run that must share no speaker with the corpus; may be repeated.",
        ),
        click.Option(["--strict"], is_flag=True, help="Fail if --not-in finds a shared speaker or utterance."),
    ]


def work_options() -> list[click.Option]:
    """The options that divide the work."""
    return [
        click.Option(
            ["--num-workers"],
            type=COUNT,
            default=num_cores,
            show_default="all cores",
            help="Worker processes; 0 works in this process.",
        ),
        click.Option(
            ["--shard-range"],
            metavar="A:B|I/N",
            show_default="all",
            help="Files to make here: A to B - 1, or share I of N, counted from 0.",
        ),
        click.Option(
            ["--beam"], metavar="OPTIONS", help='Run on Apache Beam, for example with "--runner=FlinkRunner".'
        ),
        click.Option(["--dry-run"], is_flag=True, help="Only print the files to make and how to divide the work."),
        progress_option(),
    ]


def progress_option() -> click.Option:
    """Whether a progress bar is shown."""
    return click.Option(["--progress/--no-progress"], default=True, help="Show a progress bar.")


def common_sections() -> Mapping[str, list[click.Option]]:
    """All of them, by section."""
    return {
        "Features": fbank_options(),
        "Versions": version_options(),
        "Output": output_options(),
        "Work": work_options(),
    }
