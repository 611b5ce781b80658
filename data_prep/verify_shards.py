"""Reads everything in a directory of shards again and names what is damaged."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from etils import epath
from tqdm import tqdm

from data_prep.ordered_map import ordered_map
from mqmha_jax.data import shard_format
from mqmha_jax.data.shard_format import INFO_NAME, TABLE_NAME, ShardFile, ShardInfo
from mqmha_jax.data.shard_reader import FbankShards, open_shards
from mqmha_jax.errors import UserError
from mqmha_jax.file_hash import hash_file

BLOCK = 1_000
"""Utterances that a worker reads at a time."""


def find_damage(directory: Path, *, num_workers: int, progress: bool = True) -> list[str]:
    """Finds damage in shards: files that differ from what was written, and records that cannot be read.

    Args:
      directory: of the shards.
      num_workers: worker processes; 0 does the work in this process.
      progress: show a bar on standard error.

    Returns:
      One sentence per damaged file and per unreadable utterance; none if all is well.

    Raises:
      UserError: ``shards.json`` is missing or damaged, so nothing else can be checked.
    """
    path = epath.Path(directory / INFO_NAME)
    if not path.is_file():
        raise UserError(f"{directory} is not a directory of shards: it has no {INFO_NAME}.")
    info = shard_format.parse_info(path)
    problems = [*_find_differing_files(directory, info, num_workers, progress)]
    try:
        num_utterances = len(open_shards(directory, refuse_damaged=False))
    except UserError as error:  # the table, which says what utterances to expect
        return [*problems, str(error)]
    starts = range(0, num_utterances, BLOCK)
    blocks = [range(start, min(start + BLOCK, num_utterances)) for start in starts]
    read = functools.partial(_find_unreadable, directory)
    with (
        contextlib.closing(ordered_map(read, blocks, min(num_workers, len(blocks)))) as results,
        tqdm(total=num_utterances, unit="utterance", disable=not progress) as bar,
    ):
        for block, found in zip(blocks, results, strict=True):
            problems += found
            bar.update(len(block))
    return problems


def _find_differing_files(directory: Path, info: ShardInfo, num_workers: int, progress: bool) -> Iterator[str]:
    count = len(info.files)
    tasks = [(shard_format.shard_path(directory, index, count), file) for index, file in enumerate(info.files)]
    with contextlib.closing(ordered_map(_describe_difference, tasks, min(num_workers, count))) as results:
        for problem in tqdm(results, total=count, unit="file", disable=not progress):
            if problem:
                yield problem
    for name, written in {TABLE_NAME: info.table_sha256, **info.other_files}.items():
        path = directory / name
        if not path.is_file() or hash_file(path) != written:
            yield f"{path}: missing or damaged."


def _describe_difference(task: tuple[Path, ShardFile]) -> str | None:
    path, file = task
    if not path.is_file():
        return f"{path}: missing."
    if (size := path.stat().st_size) != file.num_bytes:
        return f"{path}: has {size} bytes; {file.num_bytes} were written."
    if hash_file(path) != file.sha256:
        return f"{path}: damaged; its checksum differs from the one of the written bytes."
    return None


def _find_unreadable(directory: Path, utterances: range) -> list[str]:
    shards = _open_once(directory)
    problems = []
    for index in utterances:
        try:
            if not np.isfinite(shards.fbank(index)).all():
                problems.append(f"Utterance {shards.utterance(index)!r}: has values that are not finite.")
        except UserError as error:
            problems.append(f"Utterance {shards.utterance(index)!r}: {error}")
    return problems


@functools.lru_cache(maxsize=1)
def _open_once(directory: Path) -> FbankShards:
    return open_shards(directory, refuse_damaged=False)
