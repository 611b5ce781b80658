"""The command line: one command per corpus, the same options for what is made of it."""

import dataclasses
import functools
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

import mqmha_jax
from data_prep.build_shards import REJECTED_NAME, build_shards
from data_prep.corpora import CORPORA
from data_prep.manifest import Recording
from data_prep.ordered_map import num_cores
from data_prep.versions import AUGMENTATIONS, VersionPlan
from mqmha_jax.config import FbankSpec
from mqmha_jax.errors import UserError

FOLDER = click.Path(path_type=Path)
COUNT = click.IntRange(min=0)


def main() -> None:
    """Runs the command line; a mistake of the user ends it with a sentence and status 1."""
    try:
        prepare(standalone_mode=False)
    except UserError as error:
        sys.exit(f"Error: {error}")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit("Stopped; nothing was written.")


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.version_option(mqmha_jax.__version__)
def prepare() -> None:
    """Make fbank shards for training and evaluation from a corpus of audio."""


def _fbank_options(command: Callable[..., None]) -> Callable[..., None]:
    """One option per field of FbankSpec, from the field's own name, default and help."""
    types = typing.get_type_hints(FbankSpec)
    for field in reversed(dataclasses.fields(FbankSpec)):
        choices = typing.get_args(types[field.name])
        name = field.name.replace("_", "-")
        command = click.option(
            f"--{name}/--no-{name}" if types[field.name] is bool else f"--{name}",
            type=click.Choice(choices) if choices else types[field.name],
            default=field.default,
            help=f"Fbank: {field.metadata['help']}.",
        )(command)
    return command


def _build_options(command: Callable[..., None]) -> Callable[..., None]:
    """What every corpus command takes; the command itself returns nothing but its recordings."""
    options = [
        click.option("--versions", default="clean", help=f"Copies of each utterance: {', '.join(AUGMENTATIONS)}."),
        click.option("--speeds", default="1.0", help="Speeds of each copy, 1.0 first; others make new speakers."),
        click.option("--noise", type=FOLDER, help="Folder of noises, for the version noise."),
        click.option("--room-responses", type=FOLDER, help="Folder of room impulse responses, for the version reverb."),
        click.option("--seed", default=0, help="Seed of all random choices."),
        click.option(
            "--num-workers", type=COUNT, default=num_cores, show_default="all cores", help="Processes; 0: only this."
        ),
        click.option("--max-rejected", type=COUNT, default=100, help="More unreadable files than this end the job."),
        click.option("--progress/--no-progress", default=True, help="Show a progress bar."),
    ]
    for option in reversed(options):
        command = option(command)
    return _fbank_options(command)


def _corpus_command(function: Callable[..., Sequence[Recording]]) -> Callable[..., None]:
    """A command that builds shards from the recordings a function of the corpus' own arguments returns."""

    @_build_options
    @functools.wraps(function)
    def command(
        output: Path,
        versions: str,
        speeds: str,
        noise: Path | None,
        room_responses: Path | None,
        seed: int,
        num_workers: int,
        max_rejected: int,
        progress: bool,
        **options: Any,
    ) -> None:
        spec = FbankSpec(**{field.name: options.pop(field.name) for field in dataclasses.fields(FbankSpec)})
        plan = VersionPlan(
            names=tuple(versions.split(",")),
            speeds=_floats("speeds", speeds),
            noise=noise,
            room_responses=room_responses,
            seed=seed,
            sample_rate_hz=spec.sample_rate_hz,
        )
        recordings = function(**options)
        report = build_shards(
            recordings,
            output,
            spec=spec,
            plan=plan,
            provenance={
                "corpus": click.get_current_context().info_name,
                "arguments": _json(options | dataclasses.asdict(plan) | {"max_rejected": max_rejected}),
            },
            num_workers=num_workers,
            max_rejected=max_rejected,
            progress=progress,
        )
        hours = report.num_frames * spec.frame_shift_ms / 3.6e6
        click.echo(
            f"{output}: {report.num_utterances} utterances of {report.num_speakers} speakers, {hours:.1f} hours, "
            f"from {report.num_recordings} recordings; {len(report.rejected)} could not be used."
        )
        if report.rejected:
            click.echo(f"See {output / REJECTED_NAME} for which and why.")

    return command


@prepare.command()
@click.argument("directory", type=FOLDER)
@click.argument("output", type=FOLDER)
@_corpus_command
def folder(directory: Path) -> Sequence[Recording]:
    """OUTPUT: shards of the audio files in DIRECTORY/<speaker>/**."""
    return CORPORA["folder"](directory)


@prepare.command()
@click.argument("list_path", metavar="LIST", type=FOLDER)
@click.argument("output", type=FOLDER)
@click.option("--root", type=FOLDER, show_default="the folder of LIST", help="What the paths in LIST are relative to.")
@_corpus_command
def csv(list_path: Path, root: Path | None) -> Sequence[Recording]:
    """OUTPUT: shards of the recordings in LIST, a CSV file with columns path, speaker and any others."""
    return CORPORA["csv"](list_path, root)


@prepare.command()
@click.argument("output", type=FOLDER)
@click.option("--num-speakers", default=100, help="How many speakers.")
@click.option("--sessions-per-speaker", default=4, help="Recording conditions of each speaker.")
@click.option("--utterances-per-session", default=5, help="Recordings in each condition.")
@click.option("--seconds", nargs=2, type=float, default=(2.0, 5.0), help="Shortest and longest duration.")
@click.option("--voice-seed", default=0, help="Another seed is another corpus.")
@click.option("--first-speaker", default=0, help="Index of the first; disjoint ranges are disjoint speakers.")
@_corpus_command
def synthetic(**options: Any) -> Sequence[Recording]:
    """OUTPUT: shards of machine-made voices, for trying things out; not the voices of people."""
    return CORPORA["synthetic"](**options)


def _floats(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--{option} {text}: not numbers separated by commas, such as 1.0,0.9,1.1.") from None


def _json(options: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
