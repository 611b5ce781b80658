"""The options that every corpus command takes, and what it does with them."""

import dataclasses
import functools
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from data_prep.build_shard import ShardOptions
from data_prep.build_shards import TIMEOUT_SECONDS, build_shards
from data_prep.completion import REJECTED_NAME
from data_prep.leaks import leaks
from data_prep.manifest import Recording
from data_prep.ordered_map import num_cores
from data_prep.partial import describe_job
from data_prep.pieces import SHARD_MEGABYTES, estimated_bytes
from data_prep.versions import AUGMENTATIONS, VersionPlan
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_coding import Coding
from mqmha_jax.errors import UserError

FOLDER = click.Path(path_type=Path)
COUNT = click.IntRange(min=0)


def corpus_command(function: Callable[..., Sequence[Recording]]) -> Callable[..., None]:
    """A command that builds shards from the recordings a function of the corpus' own arguments returns.

    Args:
      function: takes the corpus' own arguments and options. The command also needs an argument ``output``.

    Returns:
      A function for ``click.command()``, with the options of the fbank, of the versions and of the job added.
    """

    @_options
    @functools.wraps(function)
    def command(
        output: Path,
        versions: str,
        speeds: str,
        noise: Path | None,
        room_responses: Path | None,
        seed: int,
        coding: Coding,
        shard_megabytes: float,
        shard_range: str | None,
        beam: str | None,
        not_in: tuple[Path, ...],
        strict: bool,
        num_workers: int,
        max_rejected: int,
        retry_rejected: bool,
        timeout: float,
        dry_run: bool,
        progress: bool,
        **arguments: Any,
    ) -> None:
        spec = FbankSpec(**{field.name: arguments.pop(field.name) for field in dataclasses.fields(FbankSpec)})
        plan = VersionPlan(
            names=tuple(versions.split(",")),
            speeds=_floats("speeds", speeds),
            noise=noise,
            room_responses=room_responses,
            seed=seed,
            sample_rate_hz=spec.sample_rate_hz,
        )
        recordings = function(**arguments)
        _report_leaks(recordings, not_in, strict)
        if dry_run:
            options = ShardOptions(spec=spec, plan=plan, coding=coding, timeout_seconds=timeout)
            click.echo(_outlook(output, recordings, options, shard_megabytes))
            return
        report = build_shards(
            recordings,
            output,
            spec=spec,
            plan=plan,
            provenance={
                "corpus": click.get_current_context().info_name,
                "arguments": _json(arguments | dataclasses.asdict(plan)),
            },
            num_workers=num_workers,
            max_rejected=max_rejected,
            progress=progress,
            coding=coding,
            shard_megabytes=shard_megabytes,
            shard_range=shard_range,
            retry_rejected=retry_rejected,
            timeout_seconds=timeout,
            run=None if beam is None else _beam(beam),
        )
        hours = report.num_frames * spec.frame_shift_ms / 3.6e6
        if report.num_missing:
            click.echo(
                f"{output}: {report.num_utterances:,} utterances, {hours:,.1f} hours so far; {report.num_missing} of "
                "its files are still to be made. Whoever makes the last one completes the directory."
            )
            return
        click.echo(
            f"{output}: {report.num_utterances} utterances of {report.num_speakers} speakers, {hours:.1f} hours, "
            f"from {report.num_recordings} recordings; {len(report.rejected)} could not be used."
        )
        if report.rejected:
            click.echo(f"See {output / REJECTED_NAME} for which and why.")

    return command


def _options(command: Callable[..., None]) -> Callable[..., None]:
    options = [
        click.option("--versions", default="clean", help=f"Copies of each utterance: {', '.join(AUGMENTATIONS)}."),
        click.option("--speeds", default="1.0", help="Speeds of each copy, 1.0 first; others make new speakers."),
        click.option("--noise", type=FOLDER, help="Folder of noises, for the versions with noise."),
        click.option("--room-responses", type=FOLDER, help="Folder of room impulse responses, for the version reverb."),
        click.option("--seed", default=0, help="Seed of all random choices."),
        click.option(
            "--coding", type=click.Choice(typing.get_args(Coding)), default="float16", help="How frames are stored."
        ),
        click.option("--shard-megabytes", default=float(SHARD_MEGABYTES), help="Size of a file, about."),
        click.option(
            "--shard-range",
            metavar="A:B|I/N",
            show_default="all",
            help="Files to make here: A to B - 1, or share I of N.",
        ),
        click.option("--beam", metavar="OPTIONS", help='Work through Apache Beam, e.g. "--runner=FlinkRunner".'),
        click.option(
            "--not-in", type=FOLDER, multiple=True, help="Shards or work directory that must share no speaker; several."
        ),
        click.option("--strict", is_flag=True, help="End with an error if --not-in finds anything."),
        click.option(
            "--num-workers", type=COUNT, default=num_cores, show_default="all cores", help="Processes; 0: only this."
        ),
        click.option("--max-rejected", type=COUNT, default=100, help="More unusable files than this end the job."),
        click.option("--retry-rejected", is_flag=True, help="Make finished files again that lack recordings."),
        click.option("--timeout", default=TIMEOUT_SECONDS, help="Seconds after which a recording is left out."),
        click.option("--dry-run", is_flag=True, help="Say what would be made, and how it can be shared."),
        click.option("--progress/--no-progress", default=True, help="Show a progress bar."),
    ]
    for option in reversed(options):
        command = option(command)
    return _fbank_options(command)


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


def _report_leaks(recordings: Sequence[Recording], others: Sequence[Path], strict: bool) -> None:
    speakers, utterances = {recording.speaker for recording in recordings}, [r.utterance for r in recordings]
    for other in others:
        for note in leaks("The corpus", speakers, utterances, other):
            if strict:
                raise UserError(f"{note} Leave them out of one of the two.")
            click.echo(f"Warning: {note}", err=True)


def _outlook(output: Path, recordings: Sequence[Recording], options: ShardOptions, shard_megabytes: float) -> str:
    if not recordings:
        raise UserError("There are no recordings.")
    count = describe_job(recordings, options, shard_megabytes).num_pieces
    megabytes = estimated_bytes(recordings, options) / 1e6
    return (
        f"{output}: {len(recordings):,} recordings of {len({r.speaker for r in recordings}):,} speakers would become "
        f"{count} files, about {megabytes:,.0f} MB. On one machine: the same command without --dry-run. On several: "
        f"--shard-range I/N in each, I from 0 to N - 1, N at most {count}; or ranges such as 0:{min(16, count)}."
    )


def _beam(options: str) -> Any:
    from data_prep.beam_job import beam_run  # here: Apache Beam has an environment of its own

    return beam_run(options)


def _floats(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--{option} {text}: not numbers separated by commas, such as 1.0,0.9,1.1.") from None


def _json(options: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
