"""Keeps the embeddings of a stress test in a folder, so that a stopped test can resume."""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from mqmha_jax.data.embedding_files import read_embeddings, write_embeddings
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import read_sealed_json, write_sealed_json
from mqmha_jax.results_directory import refuse_foreign_files
from mqmha_jax.types import Embeddings

_SETUP = "setup.json"


class KeptEmbeddings:
    """One file of embeddings for each condition, all of one setup."""

    def __init__(self, directory: Path, setup: Mapping[str, str | int | None]) -> None:
        """Opens the folder, or makes it.

        Args:
          directory: for the files.
          setup: all that decides about the embeddings of a condition.

        Raises:
          UserError: the folder belongs to another setup, holds embeddings of something else, or cannot be written.
        """
        self._directory = directory
        path = directory / _SETUP
        if not path.exists():
            names = [file.name for file in directory.glob("*.npz")]
            refuse_foreign_files(directory, names, mark=_SETUP, work="stress test")
            directory.mkdir(parents=True, exist_ok=True)
            write_sealed_json(path, dict(setup))
            return
        earlier = read_sealed_json(path, advice=f"Delete {directory} to start again.")
        differing = [name for name, value in setup.items() if earlier.get(name) != value]
        if differing:
            of = f"another stress test, which differs in {', '.join(differing)}"
            if "version" in differing:  # the same words may mean other things there
                of = "a stress test by another version of this program"
            raise UserError(
                f"{directory} holds embeddings of {of}. Give another --output, or delete that folder to start again."
            )

    def read(self, condition: str, wanted: Collection[str]) -> Embeddings | None:
        """The embeddings of recordings under a condition; None if some are not there, or the file is damaged."""
        path = self._path(condition)
        try:
            ids, vectors = read_embeddings(path)
        except UserError:
            return None
        asked = {*wanted}
        rows = [row for row, name in enumerate(ids) if name in asked] if len(ids) > len(wanted) else range(len(ids))
        kept = Embeddings(tuple(ids[row] for row in rows), vectors[np.asarray(rows, np.int64)])
        return kept if {*kept.ids} == asked else None

    def write(self, condition: str, embeddings: Embeddings) -> None:
        """Keeps the embeddings of a condition; the file appears whole or not at all.

        Raises:
          UserError: it cannot be written.
        """
        write_embeddings(self._path(condition), embeddings)

    def _path(self, condition: str) -> Path:
        return self._directory / f"{condition}.npz"


def fingerprint_files(files: Sequence[tuple[str, Path]]) -> str:
    """The same only for files of the same names and paths that have not changed since, by size and time.

    Args:
      files: names and paths.
    """
    digest = hashlib.sha256()
    for name, path in sorted(files):
        status = path.stat()
        digest.update(f"{name}\0{status.st_size} {status.st_mtime_ns} ".encode() + os.fsencode(path.resolve()) + b"\n")
    return digest.hexdigest()
