"""What a corpus command does: list the recordings, build their shards, report."""

import dataclasses
import os
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from data_prep.like import choose_features
from mqmha_jax.atomic import check_writable_directory
from mqmha_jax.data.shard_coding import Coding
from mqmha_jax.errors import UserError, count_noun, printable

if typing.TYPE_CHECKING:
    from data_prep.build_shards import Run
    from data_prep.completion import BuildReport
    from data_prep.manifest import Recording
    from data_prep.shard_options import ShardOptions


def build_corpus(
    list_recordings: Callable[..., Sequence["Recording"]],
    output: Path,
    *,
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
    min_speech: float,
    max_clipped: float,
    dry_run: bool,
    progress: bool,
    **arguments: Any,
) -> None:
    """Builds shards of what a corpus lists; the options are those of ``build_options``.

    Args:
      list_recordings: function of the corpus.
      output: directory of the shards.
      arguments: options of the features, and the corpus' own arguments.

    Raises:
      UserError: as ``build_shards``; the corpus shares speakers with ``not_in`` and ``strict`` forbids it; or no
        version uses a given folder of noises or rooms.
    """
    from data_prep.build_shards import build_shards  # here: libraries that --help does without
    from data_prep.shard_options import ShardOptions
    from data_prep.versions import VersionPlan, check_folders

    spec = choose_features(arguments)
    plan = VersionPlan(
        names=tuple(versions.split(",")),
        speeds=_floats("speeds", speeds),
        noise=noise,
        room_responses=room_responses,
        seed=seed,
        sample_rate_hz=spec.sample_rate_hz,
    )
    check_folders(plan)
    if not dry_run:
        _check_output(output)
    recordings = list_recordings(**arguments)
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
            "arguments": _as_json(arguments | dataclasses.asdict(plan)),
        },
        num_workers=num_workers,
        max_rejected=max_rejected,
        progress=progress,
        coding=coding,
        shard_megabytes=shard_megabytes,
        shard_range=shard_range,
        retry_rejected=retry_rejected,
        timeout_seconds=timeout,
        min_speech_seconds=min_speech,
        max_clipped_share=max_clipped,
        run=None if beam is None else _beam(beam),
    )
    click.echo(_summary(report, output, report.num_frames * spec.frame_shift_ms / 3.6e6))


def _check_output(output: Path) -> None:
    """Refuses an output that cannot be written, before the corpus is listed, which takes minutes for a large one."""
    from mqmha_jax.data.shard_format import INFO_NAME
    from mqmha_jax.data.shard_writer import refuse_taken

    if not (output / INFO_NAME).is_file():  # finished shards may be those of this very command
        refuse_taken(output)
    check_writable_directory(Path(os.path.abspath(output)).parent)  # the shards grow next to it


def _report_leaks(recordings: Sequence["Recording"], others: Sequence[Path], strict: bool) -> None:
    from data_prep.leaks import leaks

    speakers, utterances = {recording.speaker for recording in recordings}, [r.utterance for r in recordings]
    for other in others:
        for note in leaks("The corpus", speakers, utterances, other):
            if strict:
                raise UserError(f"{note} Leave them out of one of the two.")
            click.echo(f"Warning: {printable(note)}", err=True)


def _outlook(output: Path, recordings: Sequence["Recording"], options: "ShardOptions", shard_megabytes: float) -> str:
    from data_prep.partial import describe_job
    from data_prep.pieces import estimate_bytes

    if not recordings:
        raise UserError("The corpus lists no recordings. Check its path and its split.")
    count = describe_job(recordings, options, shard_megabytes).num_pieces
    megabytes = estimate_bytes(recordings, options) / 1e6
    return (
        f"{output}: {count_noun(len(recordings), 'recording')} of "
        f"{count_noun(len({r.speaker for r in recordings}), 'speaker')} would become "
        f"{count_noun(count, 'file')}, about {megabytes:,.0f} MB. On one machine: the same "
        "command without --dry-run. On several: "
        f"--shard-range I/N in each, I from 0 to N - 1, N at most {count}; or ranges such as 0:{min(16, count)}."
    )


def _summary(report: "BuildReport", output: Path, hours: float) -> str:
    from data_prep.findings import DOUBTFUL_NAME, REJECTED_NAME

    if report.num_missing:
        return (
            f"{output}: {report.num_utterances:,} utterances, {hours:,.1f} hours so far; files still to "
            f"make: {report.num_missing}. The process that makes the last one completes the directory."
        )
    if not report.is_complete:
        return f"{output}: all files are made; another process is at work on them and completes the directory."
    lines = [
        f"{output}: {count_noun(report.num_utterances, 'utterance')} of {count_noun(report.num_speakers, 'speaker')}, "
        f"{hours:.1f} hours, from {count_noun(report.num_recordings, 'recording')}; {len(report.rejected)} rejected."
    ]
    if report.was_made:  # a million sizes would take an hour on a network disk, so none is compared
        lines.append(
            "It was made before, so nothing was read again: recordings are known by name only, and --retry-rejected "
            f"serves unfinished output. If any recording has changed since, delete {output} to prepare it again."
        )
    if report.rejected:
        lines.append(f"{output / REJECTED_NAME} lists them with the reason.")
    if report.doubtful:
        lines.append(
            f"Little speech or clipping: {count_noun(len(report.doubtful), 'recording')}; --min-speech and "
            f"--max-clipped would reject them. {output / DOUBTFUL_NAME} lists them."
        )
    return "\n".join(lines)


def _beam(options: str) -> "Run":
    from data_prep.beam_job import beam_run  # here: Apache Beam has an environment of its own

    return beam_run(options)


def _floats(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--{option} {text}: not numbers separated by commas, such as 1.0,0.9,1.1.") from None


def _as_json(options: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
