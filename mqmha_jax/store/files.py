"""The files of a store: one description, one table of recordings, one array of embeddings.

``store.json`` names the other two, whose names carry the number of the change that wrote them, and holds their SHA-256.
A change writes both anew, and then replaces ``store.json``: a reader finds the state before or after the change.
"""

import contextlib
import mmap
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from mqmha_jax.atomic import check_new_directory, check_writable_directory, replacing, try_lock
from mqmha_jax.config import Config, FbankSpec
from mqmha_jax.config_io import differences, from_dict
from mqmha_jax.errors import UserError
from mqmha_jax.file_hash import size_and_hash
from mqmha_jax.json_file import read_versioned_json, require_fields, write_sealed_json
from mqmha_jax.npz_file import open_npz
from mqmha_jax.runs.run_files import STORE_NAME
from mqmha_jax.store.roster import Roster

LOCK_NAME = ".lock"
FORMAT_VERSION = 1
LONGEST_WAIT_S = 60.0
"""Seconds to wait for another process that changes the store; a change of a million embeddings takes seconds."""

ROWS_AT_ONCE = 1 << 16
"""Embeddings in memory at a time: 64 MiB at E=256."""

VectorBlocks = Iterable[Float32[np.ndarray, "_ E"]]

_ADVICE = "Restore the store from a copy."
_FIELDS = {"generation": int, "network": dict, "files": dict[str, tuple[int, str]]}
_NETWORK_FIELDS = {"sha256": str, "dimension": int, "fbank": dict, "name": str, "run": str, "step": int}

# A reader may find the description of a state whose files the next change removes before they are open.
_READ_TRIES = 10


class Network(NamedTuple):
    """The network that made the embeddings of a store.

    Attributes:
      sha256: fingerprint of its parameters.
      dimension: E.
      fbank: its features.
      name: what messages call it.
      run: work directory that it was loaded from; empty if it came from elsewhere.
      step: of the checkpoint; -1 without a run.
    """

    sha256: str
    dimension: int
    fbank: FbankSpec
    name: str
    run: str
    step: int

    def difference(self, other: "Network") -> str:
        """Why embeddings of another network cannot be compared with those of this one; empty: they can."""
        changed = differences(Config(fbank=self.fbank), Config(fbank=other.fbank))
        if changed:
            return f"other features ({'; '.join(changed)})"
        if self.dimension != other.dimension:
            return f"embeddings of size {other.dimension}, not {self.dimension}"
        return "" if self.sha256 == other.sha256 else "other parameters"


class Stored(NamedTuple):
    """One state of a store.

    Attributes:
      generation: number of changes so far.
      network: made the embeddings.
      roster: R recordings.
      vectors: ``[R, E]``, not normalised, mapped from the file.
    """

    generation: int
    network: Network
    roster: Roster
    vectors: Float32[np.ndarray, "R E"]


@contextlib.contextmanager
def lock_store(directory: Path) -> Iterator[None]:
    """Keeps other processes and threads from changing the store inside; they wait, readers do not.

    Raises:
      UserError: there is no store, the directory cannot be written, or another process changes the store for more
        than a minute.
    """
    read_generation(directory)
    try:
        descriptor = os.open(directory / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written ({error.strerror}). Allow writing there (chmod u+w)."
        ) from error
    try:
        until = time.monotonic() + LONGEST_WAIT_S
        while not try_lock(descriptor):
            if time.monotonic() > until:
                raise UserError(f"{directory} is being changed by another process; try again when it is done.")
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def is_store(directory: Path) -> bool:
    """Whether a directory holds a store."""
    return (directory / STORE_NAME).is_file()


def check_new_store(directory: Path) -> None:
    """Refuses a directory where no store can be made, before the work whose result it holds.

    Raises:
      UserError: something is there already, or the directory cannot be made or written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        what = "a store already; open it" if is_store(directory) else "no store. Give a new directory"
        raise UserError(f"{directory} exists and is {what}.")
    if directory.exists():
        check_writable_directory(directory)
    else:
        check_new_directory(directory)


def check_store_writable(directory: Path) -> None:
    """Refuses a store that cannot be changed, before the work whose result it holds.

    Raises:
      UserError: the directory cannot be written, or the disk is full.
    """
    check_writable_directory(directory, STORE_NAME, LOCK_NAME)


def write_state(directory: Path, generation: int, network: Network, roster: Roster, vectors: VectorBlocks) -> None:
    """Replaces the state of a store; call it inside ``lock_store``.

    Args:
      directory: of the store.
      generation: larger than that of the state before.
      network: made the embeddings.
      roster: R recordings.
      vectors: blocks of the ``[R, E]`` embeddings, in the order of the roster.

    Raises:
      UserError: the files cannot be written; the state before stays.
    """
    names = f"recordings-{generation}.npz", f"vectors-{generation}.npy"
    table, array = (directory / name for name in names)
    with replacing(table) as temporary:
        np.savez(
            temporary,
            speakers=_pack(roster.speakers),
            recordings=_pack(roster.recordings),
            **{name: column for name, column in roster._asdict().items() if name not in ("speakers", "recordings")},
        )
    with replacing(array) as temporary, temporary.open("wb") as file:
        shape = len(roster.recordings), network.dimension
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for block in vectors:
            file.write(np.ascontiguousarray(block, "<f4").data)
    content = {
        "format_version": FORMAT_VERSION,
        "generation": generation,
        "network": network._asdict() | {"fbank": asdict(network.fbank)},
        "files": {name: size_and_hash(directory / name) for name in names},
    }
    write_sealed_json(directory / STORE_NAME, content)
    for path in [*directory.glob("recordings-*.npz"), *directory.glob("vectors-*.npy")]:
        if path.name not in names:
            path.unlink(missing_ok=True)


def read_generation(directory: Path) -> tuple[int, int]:
    """Two numbers that change whenever the store does; does not read the store.

    Raises:
      UserError: there is no store.
    """
    try:
        status = (directory / STORE_NAME).stat()
    except OSError as error:
        raise UserError(f"{directory} is not a store of speakers. 'mqmha enrol' makes one.") from error
    return status.st_ino, status.st_mtime_ns


def read_network(directory: Path) -> Network:
    """The network that made a store.

    Raises:
      UserError: there is no store, or its description is damaged.
    """
    return _parse_network(_read_description(directory)["network"])


def read_state(directory: Path) -> Stored:
    """Reads a store and compares its files with their hashes.

    Raises:
      UserError: there is no store, a file is missing or damaged, or a newer version wrote it.
    """
    for tries_left in reversed(range(_READ_TRIES)):
        described = _read_description(directory)
        try:
            return _read_files(directory, described)
        except (UserError, OSError) as error:  # a writer may remove the files between two looks at them
            if tries_left and _read_description(directory) != described:
                continue
            if isinstance(error, UserError):
                raise
            raise UserError(f"{directory} cannot be read ({error.strerror}). {_ADVICE}") from error
    raise AssertionError("the last try returns or raises")


def read_blocks(
    vectors: Float32[np.ndarray, "R E"], rows: Bool[np.ndarray, " R"] | None = None
) -> Iterator[Float32[np.ndarray, "_ E"]]:
    """Yields embeddings in blocks of a bounded number of rows, and lets the memory of a mapped file go after each.

    Args:
      vectors: all embeddings.
      rows: the rows to take; None: all.
    """
    mapped = vectors.base if isinstance(vectors, np.memmap) else None
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        yield np.asarray(vectors[part] if rows is None else vectors[part][rows[part]])
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def _read_description(directory: Path) -> dict[str, Any]:
    read_generation(directory)
    path = directory / STORE_NAME
    content = read_versioned_json(path, FORMAT_VERSION, _FIELDS, advice=_ADVICE)
    require_fields(content["network"], _NETWORK_FIELDS, where=f"{path}, network", advice=_ADVICE)
    return content


def _read_files(directory: Path, content: Mapping[str, Any]) -> Stored:
    names = f"recordings-{content['generation']}.npz", f"vectors-{content['generation']}.npy"
    table, array = (directory / name for name in names)
    for name in names:
        _check_file(directory / name, content["files"].get(name))
    network = _parse_network(content["network"])
    with open_npz(table, advice=_ADVICE) as archive:
        columns = [archive[name] for name in Roster._fields[2:]]
        roster = Roster(_unpack(archive["speakers"]), _unpack(archive["recordings"]), *columns)
    count = len(roster.recordings)
    vectors = np.load(array, mmap_mode="r", allow_pickle=False)
    if vectors.shape != (count, network.dimension) or any(len(column) != count for column in columns):
        raise UserError(f"{directory}: its files do not belong together. {_ADVICE}")
    return Stored(content["generation"], network, roster, vectors)


def _parse_network(described: Mapping[str, Any]) -> Network:
    return Network(**{**described, "fbank": from_dict({"fbank": described["fbank"]}).fbank})


def _check_file(path: Path, written: list[Any] | None) -> None:
    try:
        found = size_and_hash(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). {_ADVICE}") from error
    if found != written:
        raise UserError(f"{path} differs from what was written (its SHA-256 changed). {_ADVICE}")


def _pack(names: tuple[str, ...]) -> np.ndarray:
    """Packs names as bytes: an array of strings would give each the size of the longest. No name has a line break."""
    return np.frombuffer("".join(f"{name}\n" for name in names).encode(), np.uint8)


def _unpack(packed: np.ndarray) -> tuple[str, ...]:
    return tuple(packed.tobytes().decode().split("\n")[:-1])
