"""Completes a directory of shards from its finished parts."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath

from data_prep.findings import DOUBTFUL_NAME, REJECTED_NAME, Finding, read_findings, write_findings
from data_prep.manifest import Recording
from data_prep.partial import Job, Partial
from data_prep.shard_options import ShardOptions
from mqmha_jax.data import shard_format
from mqmha_jax.data.shard_directory import complete_directory
from mqmha_jax.data.shard_file import name_full_disk
from mqmha_jax.data.shard_format import SPEED_MARK
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.errors import UserError, count_noun


class BuildReport(NamedTuple):
    """The outcome of a preparation.

    Attributes:
      num_recordings: recordings in the corpus.
      num_utterances: utterances written, in all versions.
      num_speakers: speakers written, including those at other speeds.
      num_frames: frames written.
      rejected: recordings left out.
      doubtful: recordings that were written but hold little speech or are clipped.
      num_missing: unfinished pieces.
      is_complete: the output is there; if not, pieces are missing, or another process completes it.
      was_made: the output was there before; its recordings are known by name only, so changed ones are not noticed.
    """

    num_recordings: int
    num_utterances: int
    num_speakers: int
    num_frames: int
    rejected: tuple[Finding, ...]
    doubtful: tuple[Finding, ...] = ()
    num_missing: int = 0
    is_complete: bool = True
    was_made: bool = False


def is_made(target: Path, job: Job) -> bool:
    """Whether the result of this job is at ``target``."""
    path = epath.Path(target / shard_format.INFO_NAME)
    return path.is_file() and shard_format.parse_info(path).job == job.name


def complete(
    partial: Partial,
    job: Job,
    count: int,
    recordings: Sequence[Recording],
    options: ShardOptions,
    provenance: Mapping[str, Any],
    max_rejected: int,
) -> BuildReport:
    """Turns finished parts into the output, unless parts are missing or another process does so.

    Args:
      partial: the opened directory of parts.
      job, count: the job, and its number of pieces.
      recordings, options, provenance, max_rejected: as for ``build_shards``.

    Raises:
      UserError: too many recordings were rejected, none was left, or an id appears twice.
    """
    with (
        partial.try_lock(range(count)) as locked,
        name_full_disk(partial.target, f"The parts in {partial.directory} stay; run the same command again to resume."),
    ):
        if is_made(partial.target, job):
            partial.remove()
            return _make_report(partial.target, len(recordings))
        parts = [partial.part(index, count) for index in range(count)]
        present = [part for part in parts if part is not None]
        rejected = [rejection for part in present for rejection in part.rejected]
        doubtful = [finding for part in present for finding in part.doubtful]
        tables = [part.table for part in present]
        num_utterances = sum(len(table["num_frames"]) for table in tables)
        num_frames = sum(int(table["num_frames"].sum()) for table in tables)
        if len(rejected) > max_rejected or (len(present) == count and not num_utterances):
            raise UserError(describe_rejections(rejected, max_rejected, num_utterances, partial.directory))
        if not locked or len(present) < count:
            missing = count - len(present)
            found = tuple(rejected), tuple(doubtful)
            return BuildReport(
                len(recordings), num_utterances, 0, num_frames, *found, num_missing=missing, is_complete=False
            )
        partial.remove_leftovers()
        write_findings(partial.shards / REJECTED_NAME, rejected)
        write_findings(partial.shards / DOUBTFUL_NAME, doubtful)
        speeds = [f"{speed:g}" for speed in options.plan.speeds]
        info = complete_directory(
            partial.shards,
            [part.file for part in present],
            tables,
            spec=options.spec,
            coding=options.coding,
            provenance=provenance,
            speaker_key=functools.partial(_class_key, speeds=speeds),
            job=job.name,
        )
        partial.publish()
    num_speakers = len(info.speakers)
    return BuildReport(len(recordings), num_utterances, num_speakers, num_frames, tuple(rejected), tuple(doubtful))


def describe_rejections(rejected: Sequence[Finding], max_rejected: int, num_accepted: int, directory: Path) -> str:
    """Describes why a job stops because of rejected recordings, and what to do.

    Args:
      rejected: recordings that were rejected.
      max_rejected: the maximum.
      num_accepted: utterances made so far.
      directory: of the finished parts.
    """
    shown = "\n".join(f"  {_prefix_path(finding)}" for finding in rejected[:5])
    more = f"\n  and {len(rejected) - 5} more" if len(rejected) > 5 else ""
    return (
        f"Rejected: {count_noun(len(rejected), 'recording')} ({num_accepted} utterances made so far); "
        f"--max-rejected allows {max_rejected}:\n{shown}{more}\nRepair the files and resume with "
        f"--retry-rejected, or allow more with --max-rejected. Finished parts stay in {directory}."
    )


def _prefix_path(finding: Finding) -> str:
    """Puts the path before the reason, unless the reason starts with it."""
    return finding.reason if finding.reason.startswith(finding.path) else f"{finding.path}: {finding.reason}"


def _class_key(speaker: str, speeds: Sequence[str]) -> tuple[int, str]:
    """Sorts by speed in the plan's order, the original first, then by the original speaker's name."""
    name, _, speed = speaker.partition(SPEED_MARK)
    return (speeds.index(speed) if speed else 0, name)


def _make_report(target: Path, num_recordings: int) -> BuildReport:
    shards = open_shards(target)
    found = read_findings(target / REJECTED_NAME), read_findings(target / DOUBTFUL_NAME)
    return BuildReport(
        num_recordings, len(shards), len(shards.speakers), int(shards.num_frames.sum()), *found, was_made=True
    )
