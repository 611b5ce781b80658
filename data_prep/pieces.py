"""Cuts a corpus into pieces, one file each."""

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from data_prep.manifest import Recording
from data_prep.shard_options import ShardOptions
from mqmha_jax.errors import UserError, count_noun

SMALLEST_PIECE_BYTES = 4_000_000
MANY_PIECES = 64
"""A corpus that would fill fewer files is cut into smaller ones, up to this number, so that all cores have work."""

BYTES_PER_SECOND = {".wav": 32_000.0, ".flac": 16_000.0}
COMPRESSED_BYTES_PER_SECOND = 8_000.0
SECONDS_WITHOUT_FILE = 5.0
SAMPLED_FILES = 1_000
"""Number of recordings, evenly spread, that give their file size: a million reads on a network disk take an hour."""


def estimate_bytes(recordings: Sequence[Recording], options: ShardOptions) -> float:
    """Estimates the size of the shards of a corpus from a sample of its files' sizes."""
    sample = recordings[:: -(-len(recordings) // SAMPLED_FILES)]
    seconds = sum(_estimate_seconds(recording) for recording in sample) / len(sample) * len(recordings)
    spec, plan = options.spec, options.plan
    bytes_per_value = 2 if options.coding == "float16" else 1
    bytes_per_second = 1000 / spec.frame_shift_ms * spec.num_features * bytes_per_value
    return seconds * bytes_per_second * len(plan.names) * len(plan.speeds)


def num_pieces(total_bytes: float, num_recordings: int, shard_megabytes: float) -> int:
    """Number of pieces; depends on the corpus, never on the machine."""
    by_size = -(-total_bytes // (shard_megabytes * 1e6))
    for_all_cores = min(MANY_PIECES, total_bytes // SMALLEST_PIECE_BYTES)
    return int(min(num_recordings, max(1, by_size, for_all_cores)))


def piece(recordings: Sequence[Recording], index: int, count: int) -> Sequence[Recording]:
    """Returns piece ``index`` of ``count``; sizes differ by at most one recording."""
    return recordings[index * len(recordings) // count : (index + 1) * len(recordings) // count]


def parse_range(text: str, count: int) -> range:
    """Parses a range of pieces: ``"first:end"``, or ``"task/tasks"``, one of equal shares.

    Raises:
      UserError: the text is neither, or the range is empty or too large.
    """
    try:
        if "/" in text:
            task, tasks = map(int, text.split("/"))
            if 0 <= task < tasks:
                return range(task * count // tasks, (task + 1) * count // tasks)
        else:
            first, end = map(int, text.split(":"))
            if 0 <= first < end <= count:
                return range(first, end)
    except ValueError:
        pass
    raise UserError(
        f"--shard-range {text} is not a range of {count_noun(count, 'file')}. Give A:B with 0 <= A < B <= {count}, or "
        "I/N such as 0/16, with I from 0 to N - 1."
    )


def fingerprint(recordings: Sequence[Recording]) -> str:
    """Computes a checksum of names, sources and columns of all recordings."""
    digest = hashlib.sha256()
    for recording in recordings:
        names = [recording.utterance, recording.speaker, _describe_source(recording.source)]
        digest.update(json.dumps([names, sorted(recording.attributes.items())]).encode() + b"\n")
    return digest.hexdigest()


def _estimate_seconds(recording: Recording) -> float:
    if not isinstance(recording.source, Path):
        return SECONDS_WITHOUT_FILE
    try:
        size = recording.source.stat().st_size
    except OSError:  # the reader will report it
        return 0.0
    return size / BYTES_PER_SECOND.get(recording.source.suffix.lower(), COMPRESSED_BYTES_PER_SECOND)


def _describe_source(source: object) -> str:
    """Describes a source equally in every process; the ``repr`` of a function holds an address."""
    if isinstance(source, partial):
        return f"{_describe_source(source.func)}{source.args}{sorted(source.keywords.items())}"
    name = getattr(source, "__qualname__", None)
    return repr(source) if name is None else f"{getattr(source, '__module__', '')}.{name}"
