"""The directory next to the output where shards grow until all exist; it survives kills and serves many machines.

OUTPUT.partial/job.json           describes the job; another job is refused
OUTPUT.partial/lock               the process that makes piece i locks byte i
OUTPUT.partial/shards/            becomes OUTPUT
OUTPUT.partial/parts/00012.npz    table and findings of piece 12, which is finished if this file exists
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import mqmha_jax
from data_prep.build_shard import Part, load_part
from data_prep.manifest import Recording
from data_prep.pieces import estimate_bytes, fingerprint, num_pieces
from data_prep.shard_options import ShardOptions
from mqmha_jax.atomic import TEMPORARY, sync, write_json
from mqmha_jax.data.shard_format import INFO_NAME, SEGMENT_FRAMES, shard_path
from mqmha_jax.errors import UserError
from mqmha_jax.features.audio_folder import audio_files
from mqmha_jax.json_file import read_json

_JOB_BYTE = 1 << 40
"""Locked while job.json is read and written; no piece has this number."""


@dataclasses.dataclass(frozen=True)
class Job:
    """Identifies a preparation.

    Attributes:
      described: every option and a fingerprint of the recordings, as JSON values.
      num_pieces: number of files.
    """

    described: Mapping[str, Any]
    num_pieces: int

    @property
    def name(self) -> str:
        """Equal for the same command over the same recordings, on any machine."""
        return hashlib.sha256(json.dumps(self.described, sort_keys=True).encode()).hexdigest()


def describe_job(recordings: Sequence[Recording], options: ShardOptions, shard_megabytes: float) -> Job:
    """Describes the job that makes shards from recordings."""
    plan = dataclasses.asdict(options.plan)
    listings = {f"files in {name}": _describe_folder(value) for name, value in plan.items() if isinstance(value, Path)}
    described = {
        "version of mqmha_jax": mqmha_jax.__version__,
        "frames per record": SEGMENT_FRAMES,
        "recordings": len(recordings),
        "recordings' names, sources and columns": fingerprint(recordings),
        **dataclasses.asdict(options.spec),
        **plan,
        **listings,
        "coding": options.coding,
        "min_speech": options.min_speech_seconds,
        "max_clipped": options.max_clipped_share,
        "shard_megabytes": shard_megabytes,
    }
    count = num_pieces(estimate_bytes(recordings, options), len(recordings), shard_megabytes)
    return Job(json.loads(json.dumps(described, default=str)), count)


class Partial:
    """The growing directory of one output."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.directory = target.with_name(f"{target.name}.partial")
        self.shards = self.directory / "shards"
        self._parts = self.directory / "parts"
        self._job_path = self.directory / "job.json"
        self._lock: TextIO | None = None

    @contextlib.contextmanager
    def claim(self, job: Job) -> Iterator[int]:
        """Claims the directory for this job, or checks that it belongs to it.

        Yields:
          The number of pieces that the first process counted; file sizes may have changed since.

        Raises:
          UserError: the directory holds finished parts of another job, or cannot be written.
        """
        try:
            for directory in (self.shards, self._parts):
                directory.mkdir(parents=True, exist_ok=True)
            self._lock = (self.directory / "lock").open("a")
            fcntl.lockf(self._lock, fcntl.LOCK_EX, 1, _JOB_BYTE)
        except OSError as error:
            self.close()
            raise UserError(
                f"{self.directory}, where the shards grow, cannot be written ({error.strerror or error}). Choose "
                "another output directory."
            ) from error
        try:
            count = self._agree(job)
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, _JOB_BYTE)
            yield count
        finally:
            self.close()

    @contextlib.contextmanager
    def claim_pieces(self, pieces: range) -> Iterator[None]:
        """Reserves pieces: no other process, on any machine that sees the directory, makes them meanwhile.

        Raises:
          UserError: another process is making some of them.
        """
        with self.try_lock(pieces) as locked:
            if not locked:
                raise UserError(
                    f"Another process is making some of the shards {pieces.start}:{pieces.stop} of {self.target}. Wait "
                    "until it ends, choose another output directory, or give each process its own --shard-range."
                )
            yield

    @contextlib.contextmanager
    def try_lock(self, pieces: range) -> Iterator[bool]:
        """Locks pieces unless another process holds one of them; yields whether they are free for this one."""
        assert self._lock is not None
        if not pieces:  # a share of more tasks than pieces; a length of 0 would lock all bytes to the end
            yield True
            return
        try:
            # A range of bytes: the kernel, or the server of a network disk, sees which ranges overlap.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, len(pieces), pieces.start)
        except (BlockingIOError, PermissionError):
            yield False
            return
        except OSError as error:  # some network mounts have no locks
            logging.getLogger(__name__).warning(
                "%s cannot be locked (%s). Make sure that no other process makes the same shards.", self.target, error
            )
            yield True
            return
        try:
            yield True
        finally:
            if self._lock is not None:  # closing it has released all
                fcntl.lockf(self._lock, fcntl.LOCK_UN, len(pieces), pieces.start)

    def paths(self, index: int, count: int) -> tuple[Path, Path]:
        """Returns the paths of a piece's frames and of its table."""
        return shard_path(self.shards, index, count), self._parts / f"{index:05d}.npz"

    def part(self, index: int, count: int) -> Part | None:
        """Reads a piece; None if it is not finished."""
        path, part_path = self.paths(index, count)
        if not part_path.is_file():
            return None
        try:
            part = load_part(part_path)
        except UserError:  # the job makes it again
            return None
        return part if path.is_file() and path.stat().st_size == part.file.num_bytes else None

    def num_missing(self, count: int) -> int:
        """Counts unfinished pieces by file names only."""
        return sum(not self.paths(index, count)[1].is_file() for index in range(count))

    def discard_if_empty(self) -> None:
        """Removes the directory if no process works in it and it has no parts: an early failure leaves nothing."""
        if self._lock is None:  # it is removed already
            return
        with self.try_lock(range(_JOB_BYTE)) as locked:
            if locked and not any(self._parts.glob("*.npz")):
                shutil.rmtree(self.directory, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """Removes what killed workers left among the finished parts."""
        for leftover in self.shards.glob(f"{TEMPORARY}*"):
            leftover.unlink(missing_ok=True)

    def publish(self) -> None:
        """Renames the completed directory to the output."""
        with contextlib.suppress(FileNotFoundError):
            self.target.rmdir()  # an empty directory may exist
        os.rename(self.shards, self.target)
        sync(self.target.parent)
        self.remove()

    def remove(self) -> None:
        """Releases the locks and removes the directory, which is useless once the output exists.

        A network disk keeps a hidden file for an open one, and the directory with it. What stays does no harm: the same
        command removes it.
        """
        self.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def close(self) -> None:
        """Releases the locks."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _agree(self, job: Job) -> int:
        has_parts = any(self._parts.glob("*.npz"))
        try:
            saved, num_pieces = self._read_job()
        except UserError:
            # Nobody knows which job made these parts; next to a finished output they are useless.
            if has_parts and not (self.target / INFO_NAME).is_file():
                raise
        else:
            if saved == job.described:
                return num_pieces
            if has_parts:
                raise UserError(_describe_differences(self.directory, saved, job.described))
            with self.claim_pieces(range(_JOB_BYTE)):  # an unfinished piece of another job is useless
                shutil.rmtree(self.shards)
                self.shards.mkdir()
        write_json(self._job_path, {"num_pieces": job.num_pieces, "job": job.described})
        return job.num_pieces

    def _read_job(self) -> tuple[dict[str, Any], int]:
        """Reads description and number of pieces of the job that began here.

        Raises:
          UserError: ``job.json`` is missing or damaged.
        """
        advice = f"It says which job made the parts in {self.directory}. Delete this directory to start again."
        saved = read_json(self._job_path, dict, advice=advice)
        described, count = saved.get("job"), saved.get("num_pieces")
        if not isinstance(described, dict) or type(count) is not int or count < 1:
            raise UserError(f"{self._job_path} is damaged: it describes no job. {advice}")
        return described, count


def _describe_differences(directory: Path, saved: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    names = [name for name in {**saved, **given} if saved.get(name) != given.get(name)]
    differing = "; ".join(f"{name}: {_shorten(saved.get(name))} -> {_shorten(given.get(name))}" for name in names)
    return (
        f"{directory} holds finished parts of another job; these differ (saved -> given): {differing}. Run the "
        "original command to resume that job, choose another output directory, or delete this one to start again."
    )


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:12]}..."


def _describe_folder(folder: Path) -> str:
    names = [path.relative_to(folder).as_posix() for path in audio_files(folder)]
    return f"{len(names)} files, {hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]}"
