"""The table of utterances next to the records, as arrays, so that millions of ids need neither objects nor padding.

    num_frames                          int32 [N]
    utterance/text, utterance/ends      the ids: one UTF-8 text, and where each ends in it
    speaker/code, /text, /ends          the speaker of each utterance as an index into a list of names
    column/<name>/code, /text, /ends    string columns, in the same way
    measure/<name>                      float32 [N], NaN where an utterance has no value

Each ArrayRecord file has a table of its own until the directory is complete; ``merge`` makes one of them all.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Int32, Int64, UInt8

from mqmha_jax.errors import UserError
from mqmha_jax.npz_file import open_npz

Table = Mapping[str, np.ndarray]


def pack_strings(strings: Iterable[str]) -> tuple[UInt8[np.ndarray, " bytes"], Int64[np.ndarray, " N"]]:
    """N strings as one UTF-8 text and the end of each in it."""
    encoded = [string.encode() for string in strings]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def unpack_string(text: UInt8[np.ndarray, " bytes"], ends: Int64[np.ndarray, " N"], index: int) -> str:
    """String ``index`` of those that ``pack_strings`` packed."""
    first = int(ends[index - 1]) if index else 0
    return text[first : int(ends[index])].tobytes().decode()


def unpack_strings(table: Table, name: str) -> list[str]:
    """All strings of ``name`` in a table."""
    text, ends = table[f"{name}/text"], table[f"{name}/ends"]
    return [unpack_string(text, ends, index) for index in range(len(ends))]


class TableBuilder:
    """Collects the rows of one table."""

    def __init__(self) -> None:
        self._utterances: dict[str, None] = {}
        self._speakers: list[str] = []
        self._num_frames: list[int] = []
        self._columns: dict[str, list[str]] = {}
        self._measures: dict[str, list[float]] = {}

    def __len__(self) -> int:
        return len(self._utterances)

    def __contains__(self, utterance: str) -> bool:
        return utterance in self._utterances

    def add(
        self,
        utterance: str,
        speaker: str,
        num_frames: int,
        attributes: Mapping[str, str],
        measures: Mapping[str, float],
    ) -> None:
        """Appends a row; columns and measures that other rows lack are empty and NaN there."""
        _append(self._columns, attributes, "", len(self))
        _append(self._measures, measures, np.nan, len(self))
        self._utterances[utterance] = None
        self._speakers.append(speaker)
        self._num_frames.append(num_frames)

    def arrays(self) -> Table:
        """The table."""
        arrays = {"num_frames": np.array(self._num_frames, np.int32)}
        arrays["utterance/text"], arrays["utterance/ends"] = pack_strings(self._utterances)
        arrays |= _encode_strings("speaker", self._speakers)
        for name, strings in sorted(self._columns.items()):
            arrays |= _encode_strings(f"column/{name}", strings)
        for name, values in sorted(self._measures.items()):
            arrays[f"measure/{name}"] = np.array(values, np.float32)
        return arrays


class Merged(NamedTuple):
    """Several tables as one.

    Attributes:
      table: with ``speaker``, the class of each utterance, in place of ``speaker/*``.
      speakers: names in the order of the classes.
      columns: names of the string columns.
      measures: names of the measures.
    """

    table: Table
    speakers: tuple[str, ...]
    columns: tuple[str, ...]
    measures: tuple[str, ...]


def merge(tables: Sequence[Table], speaker_key: Callable[[str], Any] | None) -> Merged:
    """One table with the rows of all, in order.

    Args:
      tables: at least one.
      speaker_key: sort key of the speakers' names, which sets the order of the classes; None: by name.

    Raises:
      UserError: an utterance id is in two rows.
    """
    columns = _names(tables, "column/", "/code")
    measures = _names(tables, "measure/", "")
    merged = {"num_frames": np.concatenate([table["num_frames"] for table in tables])}
    sizes = np.cumsum([0, *(len(table["utterance/text"]) for table in tables)])
    merged["utterance/text"] = np.concatenate([table["utterance/text"] for table in tables])
    merged["utterance/ends"] = np.concatenate(
        [table["utterance/ends"] + size for table, size in zip(tables, sizes, strict=False)]
    )
    _refuse_duplicates(merged["utterance/text"], merged["utterance/ends"])
    merged["speaker"], speakers = _merge_coded(tables, "speaker", speaker_key)
    for name in columns:
        merged[f"column/{name}/code"], values = _merge_coded(tables, f"column/{name}", None)
        merged[f"column/{name}/text"], merged[f"column/{name}/ends"] = pack_strings(values)
    for name in measures:
        parts = [table.get(f"measure/{name}", _not_a_number(table)) for table in tables]
        merged[f"measure/{name}"] = np.concatenate(parts)
    return Merged(merged, speakers, columns, measures)


def save_table(path: Path, table: Table) -> None:
    """Writes a table."""
    np.savez_compressed(path, allow_pickle=False, **table)


def load_table(path: epath.Path | Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Reads a table.

    Args:
      path: of the file.
      names: the arrays to read, which must be there; None: all.

    Raises:
      UserError: it is damaged, or lacks an array.
    """
    with open_npz(path, advice="Prepare the shards again.") as archive:
        return {name: archive[name] for name in (archive.files if names is None else names)}


def _append(columns: dict[str, list[Any]], row: Mapping[str, Any], missing: Any, num_rows: int) -> None:
    for name in columns.keys() | row.keys():
        columns.setdefault(name, [missing] * num_rows).append(row.get(name, missing))


def _encode_strings(name: str, strings: Sequence[str]) -> dict[str, np.ndarray]:
    values = sorted(set(strings))
    code = {value: position for position, value in enumerate(values)}
    text, ends = pack_strings(values)
    codes = np.array([code[string] for string in strings], np.int32)
    return {f"{name}/code": codes, f"{name}/text": text, f"{name}/ends": ends}


def _names(tables: Sequence[Table], prefix: str, suffix: str) -> tuple[str, ...]:
    keys = {key for table in tables for key in table if key.startswith(prefix) and key.endswith(suffix)}
    return tuple(sorted(key.removeprefix(prefix).removesuffix(suffix) for key in keys))


def _merge_coded(
    tables: Sequence[Table], name: str, key: Callable[[str], Any] | None
) -> tuple[Int32[np.ndarray, " N"], tuple[str, ...]]:
    of_table = [unpack_strings(table, name) if f"{name}/code" in table else [""] for table in tables]
    values = tuple(sorted({value for own in of_table for value in own}, key=key))
    rank = {value: position for position, value in enumerate(values)}
    codes = []
    for table, own in zip(tables, of_table, strict=True):
        lookup = np.array([rank[value] for value in own], np.int32)
        codes.append(lookup[table.get(f"{name}/code", np.zeros(len(table["num_frames"]), np.int32))])
    return np.concatenate(codes), values


def _not_a_number(table: Table) -> np.ndarray:
    return np.full(len(table["num_frames"]), np.nan, np.float32)


def _refuse_duplicates(text: UInt8[np.ndarray, " bytes"], ends: Int64[np.ndarray, " N"]) -> None:
    """By hashes: a set of all ids as Python objects would take gigabytes for millions of them."""
    everything = text.tobytes()
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    spans = zip(starts, ends, strict=True)
    hashes = np.fromiter((hash(everything[start:end]) for start, end in spans), np.int64, len(ends))
    order = np.argsort(hashes, kind="stable")
    for place in np.flatnonzero(np.diff(hashes[order]) == 0):
        first, second = (unpack_string(text, ends, int(row)) for row in order[place : place + 2])
        if first == second:
            raise duplicate_id(first)


def duplicate_id(utterance: str) -> UserError:
    """The error for an id that appears twice."""
    return UserError(f"Utterance id {utterance!r} appears twice. Ids must be unique: remove or rename one of them.")
