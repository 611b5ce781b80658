"""The format of a directory of shards, for the writer and the reader.

    fbank-train.array_record-00000-of-00002   records: adjacent segments of utterances, in the order of the table
    fbank-train.array_record-00001-of-00002
    dataset_info.json, features.json          what TensorFlow Datasets reads
    utterances.npz                            the table, see shard_table.py
    shards.json                               ShardInfo; written last
    rejected.jsonl                            recordings that a preparation left out, with reasons
    doubtful.jsonl                            recordings in the shards with little speech or many clipped samples

An utterance of T frames is ``ceil(T / SEGMENT_FRAMES)`` consecutive records, so the place of every frame follows from
the lengths in the table alone.
"""

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydantic
from etils import epath
from jaxtyping import Int, Int64

from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_coding import Coding, frame_features
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import parse_json, unseal, write_sealed_json

SPEED_MARK = "#speed"
"""Part of the name of a speaker that is a copy at another speed; these are the last classes."""

FORMAT_VERSION = 3
"""Version 3 put a checksum of ``shards.json`` into itself; 2 added measures and codings. All three are read.

For shards without this checksum, the reader compares the speakers with the records that it reads, but cannot verify
other fields, such as ``fbank``. It accepts these shards, because making them again can take days.
"""

_SEALED_SINCE = 3

INFO_NAME = "shards.json"
TABLE_NAME = "utterances.npz"

_FILES = re.compile(
    r"fbank-train\.array_record-.*|dataset_info\.json|features\.json|(?:rejected|doubtful)\.jsonl"
    rf"|{re.escape(TABLE_NAME)}|{re.escape(INFO_NAME)}"
)

SEGMENT_FRAMES = 200
"""Frames per record.

A crop of 200 frames then reads two records, 64 kB. To read a crop from float16 frames of 80 bins alone took (one CPU
core, file in the page cache, 2026-11-23): records of 100 frames 97 us, 48 kB in three records; 200 frames 125 us, 64
kB; 400 frames 132 us, 96 kB; 800 frames 189 us, 159 kB. Shorter records mean more requests to a network disk, longer
ones more bytes.
"""

RECORDS_PER_SHARD = 32_768
"""About 0.8 GB a file at 80 bins, 150 files for VoxCeleb2-dev: below the usual limit of open files at three speeds."""


AnyPath = TypeVar("AnyPath", Path, epath.Path)


class ShardFile(pydantic.BaseModel, extra="forbid", frozen=True):
    """One ArrayRecord file as it was written."""

    num_records: int
    num_bytes: int
    sha256: str


class ShardInfo(pydantic.BaseModel, extra="forbid", frozen=True):
    """The contents of ``shards.json``.

    Attributes:
      format_version: layout of the directory; a reader refuses what is newer than itself.
      created_by: name and version of the program that wrote the shards.
      provenance: where the data came from, as the caller of the writer described it.
      fbank: how the frames were computed.
      segment_frames: frames per record; the last record of an utterance may be shorter.
      speakers: names in the order of the classes.
      columns: names of the string columns of the table.
      measures: names of its numeric columns.
      coding: how the frames are stored.
      job: what tells the preparation that made the shards from others; empty where there was none.
      files: the ArrayRecord files in order.
      table_sha256: checksum of the table.
      other_files: checksums of the further files by name: descriptions for TensorFlow Datasets, lists of recordings.
    """  # in the file, "content_sha256" is the checksum of all this

    format_version: int
    created_by: str
    provenance: dict[str, Any]
    fbank: FbankSpec
    segment_frames: int
    speakers: tuple[str, ...]
    columns: tuple[str, ...]
    files: tuple[ShardFile, ...]
    table_sha256: str
    measures: tuple[str, ...] = ()
    coding: Coding = "float16"
    job: str = ""
    other_files: dict[str, str] = {}


def select_original_speed(speakers: Sequence[str]) -> tuple[str, ...]:
    """The first classes: the speakers at their original speed."""
    return tuple(itertools.takewhile(lambda speaker: SPEED_MARK not in speaker, speakers))


def shard_path(directory: AnyPath, index: int, count: int) -> AnyPath:
    """Path of ArrayRecord file ``index`` of ``count``, named as TensorFlow Datasets expects."""
    return directory / f"fbank-train.array_record-{index:05d}-of-{count:05d}"


def is_file_of_shards(path: Path) -> bool:
    """Whether a path is one of the files of a directory of shards, which has its own name there."""
    return (path.parent / INFO_NAME).is_file() and _FILES.fullmatch(path.name) is not None


def record_features(num_features: int, coding: Coding) -> Any:
    """The TensorFlow Datasets features of a record with fbank ``[T, num_features]``."""
    import tensorflow_datasets as tfds  # here: the reader needs only its record parser

    return tfds.features.FeaturesDict(
        {
            "utterance": tfds.features.Text(),
            "speaker": tfds.features.Text(),
            "first_frame": np.int32,
            **frame_features(coding, num_features),
        }
    )


def first_records(num_frames: Int[np.ndarray, " N"], segment_frames: int) -> Int64[np.ndarray, " N+1"]:
    """The number of each utterance's first record; the last entry is the number of all records."""
    counts = -(-num_frames.astype(np.int64) // segment_frames)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def write_info(path: Path, info: ShardInfo) -> None:
    """Writes ``shards.json`` with its own checksum.

    Raises:
      UserError: the file cannot be written.
    """
    write_sealed_json(path, info.model_dump(mode="json"))


def parse_info(path: epath.Path) -> ShardInfo:
    """Reads ``shards.json``.

    Raises:
      UserError: the file is damaged or changed, or was written by a newer version of the program.
    """
    advice = "Copy it again from where it came, or prepare the shards again."
    values = parse_json(path.read_bytes(), dict, where=str(path), advice=advice)
    version = values.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(
            f"{path.parent} has shards of format version {version}; this program reads versions up to "
            f"{FORMAT_VERSION}. Update mqmha_jax, or prepare the shards again with this version."
        )
    if isinstance(version, int) and version >= _SEALED_SINCE:
        values = unseal(values, where=str(path), advice=advice)
    try:
        return ShardInfo.model_validate_json(json.dumps(values))
    except pydantic.ValidationError as error:
        raise UserError(f"{path} is damaged ({_first_problem(error)}). {advice}") from None


def _first_problem(error: pydantic.ValidationError) -> str:
    problem = error.errors()[0]
    place: Sequence[int | str] = problem["loc"]
    return ": ".join([*(str(part) for part in place), problem["msg"]])
