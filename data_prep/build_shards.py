"""Turns recordings into a directory of fbank shards: all of it, or the share of this machine."""

import contextlib
import functools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from data_prep.build_shard import Part, build_shard
from data_prep.completion import BuildReport, complete, describe_rejections, is_made
from data_prep.findings import Finding
from data_prep.manifest import Recording
from data_prep.ordered_map import ordered_map
from data_prep.partial import Partial, describe_job
from data_prep.pieces import parse_range, piece
from data_prep.shard_options import SHARD_MEGABYTES, TIMEOUT_SECONDS, ShardOptions
from data_prep.versions import VersionPlan
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_coding import Coding
from mqmha_jax.data.shard_table import duplicate_id
from mqmha_jax.data.shard_writer import refuse_taken
from mqmha_jax.errors import UserError


class Piece(NamedTuple):
    """The work of one process: recordings, and where their frames and their table go."""

    recordings: Sequence[Recording]
    path: Path
    part_path: Path


Run = Callable[[Callable[[Piece], None], Iterable[Piece]], Generator[None, None, None]]


def build_shards(
    recordings: Sequence[Recording],
    directory: str | Path,
    *,
    spec: FbankSpec,
    plan: VersionPlan | None = None,
    provenance: Mapping[str, Any],
    num_workers: int,
    max_rejected: int,
    progress: bool = True,
    coding: Coding = "float16",
    shard_megabytes: float = SHARD_MEGABYTES,
    shard_range: str | None = None,
    retry_rejected: bool = False,
    timeout_seconds: float = TIMEOUT_SECONDS,
    min_speech_seconds: float = 0.0,
    max_clipped_share: float = 1.0,
    run: Run | None = None,
) -> BuildReport:
    """Reads every recording, makes its versions, computes their filterbanks and writes them in order.

    Pieces of the corpus become files in ``DIRECTORY.partial``, each complete or absent; the same call resumes after
    any interruption. ``rejected.jsonl`` next to the shards lists recordings that cannot be used, ``doubtful.jsonl``
    those with little speech or many clipped samples, with path and reason. The bytes do not depend on ``num_workers``,
    ``shard_range`` or interruptions.

    Args:
      recordings: the corpus.
      directory: of the shards; must not exist yet; appears when complete.
      spec: the filterbank.
      plan: versions of every recording, at the rate of ``spec``; None: only the recording itself.
      provenance: where the data came from, as JSON values; stored in the shards.
      num_workers: worker processes; each makes whole files. 0 does the work in this process.
      max_rejected: the job stops when it rejects more recordings than this.
      progress: show a bar on standard error.
      coding: how frames are stored.
      shard_megabytes: size of a file; a small corpus is cut into smaller ones, so that all cores have work.
      shard_range: pieces to make here, as ``parse_range`` takes it; None: all. The process that makes the last one
        completes the directory.
      retry_rejected: remake finished pieces that lack recordings, for instance after files were repaired.
      timeout_seconds: a recording that takes longer is rejected.
      min_speech_seconds: a recording with less speech is rejected.
      max_clipped_share: a recording with a larger share of clipped samples is rejected.
      run: calls a module's function for every item, on any machine that sees the same disk, and yields once per item,
        in order; None: ``num_workers`` processes of this machine.

    Raises:
      UserError: too many recordings were rejected, none was left, an id appears twice, the directory exists, another
        process makes the same pieces, ``DIRECTORY.partial`` holds another job, a worker died, the disk is full, or a
        noise or a room of the plan cannot be read. Finished parts stay.
    """
    if not recordings:
        raise UserError("The corpus lists no recordings. Check its path and its split.")
    _refuse_duplicates(recordings)
    plan = plan or VersionPlan(sample_rate_hz=spec.sample_rate_hz)
    options = ShardOptions(
        spec=spec,
        plan=plan,
        coding=coding,
        timeout_seconds=timeout_seconds,
        min_speech_seconds=min_speech_seconds,
        max_clipped_share=max_clipped_share,
    )
    job = describe_job(recordings, options, shard_megabytes)
    target = Path(os.path.abspath(directory))  # "." has neighbours, too
    if not is_made(target, job):
        refuse_taken(target)
    partial = Partial(target)
    with partial.claim(job) as count, _discard_if_empty(partial):
        if not is_made(target, job):
            pieces = range(count) if shard_range is None else parse_range(shard_range, count)
            with partial.claim_pieces(pieces):
                run = run or functools.partial(ordered_map, num_workers=num_workers)
                _make(partial, recordings, pieces, count, options, run, max_rejected, retry_rejected, progress)
        return complete(partial, job, count, recordings, options, provenance, max_rejected)


def _make(
    partial: Partial,
    recordings: Sequence[Recording],
    pieces: range,
    count: int,
    options: ShardOptions,
    run: Run,
    max_rejected: int,
    retry_rejected: bool,
    progress: bool,
) -> None:
    """Makes the unfinished pieces."""
    todo, rejected, num_utterances = [], list[Finding](), 0

    def count_in(part: Part) -> None:
        nonlocal num_utterances
        rejected.extend(part.rejected)
        num_utterances += len(part.table["num_frames"])

    for index in pieces:
        part = partial.part(index, count)
        if part is None or (retry_rejected and part.rejected):
            todo.append(index)
        else:
            count_in(part)
    sizes = [len(piece(recordings, index, count)) for index in todo]
    total = sum(len(piece(recordings, index, count)) for index in pieces)
    items = (Piece(piece(recordings, index, count), *partial.paths(index, count)) for index in todo)
    with (
        contextlib.closing(run(functools.partial(_make_piece, options=options), items)) as results,
        tqdm(total=total, initial=total - sum(sizes), unit="recording", disable=not progress) as bar,
    ):
        for index, size, _ in zip(todo, sizes, results, strict=True):
            made = partial.part(index, count)
            assert made is not None  # _make_piece has just written it
            count_in(made)
            bar.update(size)
            if len(rejected) > max_rejected:
                raise UserError(describe_rejections(rejected, max_rejected, num_utterances, partial.directory))


def _make_piece(item: Piece, options: ShardOptions) -> None:
    """Makes one file of the shards, in any process."""
    item.part_path.unlink(missing_ok=True)  # a part without its table is not finished
    build_shard(*item, options=options)


@contextlib.contextmanager
def _discard_if_empty(partial: Partial) -> Iterator[None]:
    """After a failure only: a task without pieces is done at once, while others wait to begin in the directory."""
    try:
        yield
    except BaseException:
        partial.discard_if_empty()
        raise


def _refuse_duplicates(recordings: Sequence[Recording]) -> None:
    seen = set()
    for recording in recordings:
        if recording.utterance in seen:
            raise duplicate_id(recording.utterance)
        seen.add(recording.utterance)
