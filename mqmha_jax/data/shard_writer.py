"""Writes a directory of fbank shards from utterances in memory: all of it or nothing.

A corpus of audio goes through ``data_prep``, which works on many files at once and can be interrupted.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mqmha_jax.atomic import growing_directory
from mqmha_jax.config import FbankSpec
from mqmha_jax.data import shard_format
from mqmha_jax.data.shard_coding import Coding
from mqmha_jax.data.shard_directory import complete_directory
from mqmha_jax.data.shard_file import ShardFileWriter, UtteranceFbank, name_full_disk
from mqmha_jax.data.shard_format import RECORDS_PER_SHARD, ShardFile
from mqmha_jax.data.shard_table import Table
from mqmha_jax.errors import UserError


def write_shards(
    directory: str | Path,
    utterances: Iterable[UtteranceFbank],
    *,
    spec: FbankSpec,
    provenance: Mapping[str, Any],
    records_per_shard: int = RECORDS_PER_SHARD,
    coding: Coding = "float16",
) -> None:
    """Writes utterances to a new directory of shards, with the speakers in sorted order.

    Args:
      directory: created, with its parents; must not exist or be empty.
      utterances: at least one.
      spec: how the frames were computed; ``spec.num_features`` is F.
      provenance: where the data came from, as JSON values.
      records_per_shard: a new file begins after this number of records of at most ``SEGMENT_FRAMES`` frames.
      coding: how the frames are stored.

    Raises:
      UserError: the directory is taken, there are no utterances, an id appears twice, frames are not finite or have the
        wrong shape, or the disk is full. Nothing is left at ``directory`` then.
    """
    with shard_writer(
        directory, spec=spec, provenance=provenance, records_per_shard=records_per_shard, coding=coding
    ) as writer:
        for utterance in utterances:
            writer.add(utterance)


@contextlib.contextmanager
def shard_writer(
    directory: str | Path,
    *,
    spec: FbankSpec,
    provenance: Mapping[str, Any],
    records_per_shard: int = RECORDS_PER_SHARD,
    coding: Coding = "float16",
    speaker_key: Callable[[str], Any] | None = None,
) -> Iterator["ShardWriter"]:
    """A ``ShardWriter``; its complete directory appears when the ``with`` block ends without an exception.

    Args:
      directory, spec, provenance, records_per_shard, coding: as for ``write_shards``.
      speaker_key: sort key of the speakers' names, which sets the order of the classes; None: by name.

    Raises:
      UserError: as ``write_shards``.
    """
    target = Path(directory)
    refuse_taken(target)
    with (
        name_full_disk(target, f"What was written is removed again and {target} does not exist."),
        growing_directory(target) as unfinished,
    ):
        writer = ShardWriter(unfinished, spec, coding, records_per_shard)
        try:
            yield writer
            files, tables = writer.close()
        finally:
            writer.abandon()
        complete_directory(
            unfinished, files, tables, spec=spec, coding=coding, provenance=provenance, speaker_key=speaker_key
        )


class ShardWriter:
    """Fills one ArrayRecord file after the other."""

    def __init__(self, directory: Path, spec: FbankSpec, coding: Coding, records_per_shard: int) -> None:
        self._directory = directory
        self._spec = spec
        self._coding: Coding = coding
        self._records_per_shard = records_per_shard
        self._file: ShardFileWriter | None = None
        self._files: list[ShardFile] = []
        self._tables: list[Table] = []

    def add(self, utterance: UtteranceFbank) -> None:
        """Appends one utterance.

        Raises:
          UserError: as ``ShardFileWriter.add``.
        """
        if self._file is None:
            self._file = ShardFileWriter(self._growing_path(len(self._files)), self._spec, self._coding)
        self._file.add(utterance)
        if self._file.num_records >= self._records_per_shard:
            self._close_file()

    def close(self) -> tuple[list[ShardFile], list[Table]]:
        """Completes the files and gives them their names; returns what to note about each, and its table."""
        self._close_file()
        for index in range(len(self._files)):
            os.rename(self._growing_path(index), shard_format.shard_path(self._directory, index, len(self._files)))
        return self._files, self._tables

    def abandon(self) -> None:
        """Lets go of an open file; without effect after ``close``."""
        if self._file is not None:
            self._file.abandon()

    def _close_file(self) -> None:
        if self._file is not None:
            file, table = self._file.close()
            self._files.append(file)
            self._tables.append(table)
            self._file = None

    def _growing_path(self, index: int) -> Path:
        return self._directory / f"growing-{index:05d}"  # the final name holds the number of files, not known yet


def refuse_taken(directory: Path) -> None:
    """Refuses a directory that already holds something, so that nothing is overwritten.

    Raises:
      UserError: the path exists and is not an empty directory.
    """
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise UserError(f"{directory} already exists. Choose another output directory, or remove this one first.")
