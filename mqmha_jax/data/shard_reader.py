"""Random access to the frames in a directory of shards."""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float16, Float32, Int32

from mqmha_jax.config import FbankSpec
from mqmha_jax.data import shard_format
from mqmha_jax.data.ids import hash_names
from mqmha_jax.data.shard_coding import parse_frames
from mqmha_jax.data.shard_format import INFO_NAME, TABLE_NAME, ShardInfo
from mqmha_jax.data.shard_table import Table, load_table, unpack_string, unpack_strings
from mqmha_jax.errors import UserError
from mqmha_jax.file_hash import hash_file


def open_shards(
    directory: epath.PathLike, *, original_speed_only: bool = False, refuse_damaged: bool = True
) -> "FbankShards":
    """Opens shards that ``write_shards`` or ``mqmha prep`` made.

    Args:
      directory: where they lie; ``gs://`` addresses are read without a copy (with the extra ``gcs``).
      original_speed_only: leave out the copies at other speeds, which count as speakers of their own.
      refuse_damaged: look at the size of every file; False: what a damaged file held fails when it is read.

    Raises:
      UserError: there are no complete shards at ``directory``, they are damaged, or a newer version wrote them.
    """
    directory = epath.Path(directory)
    path = directory / INFO_NAME
    if not path.is_file():
        problem = f"has no {INFO_NAME}" if directory.is_dir() else "does not exist"
        raise UserError(f"{directory} is not a directory of shards: it {problem}. See mqmha prep --help.")
    info = shard_format.parse_info(path)
    table = _read_table(directory, info)
    _check_table(directory, info, table)
    if refuse_damaged:
        _check_sizes(directory, info)
    return FbankShards(directory, info, table, original_speed_only=original_speed_only)


class FbankShards:
    """Un-normalised log-mel frames of N utterances.

    Files are opened when first read, by each process for itself; pickling carries the directory's path alone.

    Attributes:
      directory: where the shards lie.
      info: the contents of ``shards.json``.
      provenance: where the data came from, as written.
      spec: how the frames were computed.
      speakers: names of the C speakers; the position is the class.
      speaker: class of each utterance, ``[N]``.
      num_frames: length of each utterance, ``[N]``.
    """

    directory: epath.Path
    info: ShardInfo
    provenance: Mapping[str, Any]
    spec: FbankSpec
    speakers: tuple[str, ...]
    speaker: Int32[np.ndarray, " N"]
    num_frames: Int32[np.ndarray, " N"]

    def __init__(self, directory: epath.Path, info: ShardInfo, table: Table, *, original_speed_only: bool) -> None:
        self.directory = directory
        self.info = info
        self.provenance = info.provenance
        self.spec = info.fbank
        self.speakers = shard_format.select_original_speed(info.speakers) if original_speed_only else info.speakers
        self._table = table
        self._original_speed_only = original_speed_only
        self._rows = np.flatnonzero(table["speaker"] < len(self.speakers))  # of the table; the first classes stay
        self.speaker = table["speaker"][self._rows]
        self.num_frames = table["num_frames"][self._rows]
        self._first_record = shard_format.first_records(table["num_frames"], info.segment_frames)[self._rows]
        self._first_record_of_file = np.cumsum([0, *(file.num_records for file in info.files)])
        # Here: what only names this class, to use a network for instance, need not load the libraries that read.
        from array_record.python.array_record_data_source import ArrayRecordDataSource
        from tensorflow_datasets.proto import tf_example_pb2

        self._parse = tf_example_pb2.Example.FromString
        self._records = ArrayRecordDataSource(
            [
                _WholeFile(str(self._path(index)), 0, file.num_records, file.num_records)
                for index, file in enumerate(info.files)
            ]
        )

    def __len__(self) -> int:
        """Number of utterances, N."""
        return len(self.num_frames)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(open_shards, original_speed_only=self._original_speed_only), (self.directory,)

    @functools.cached_property
    def utterances(self) -> tuple[str, ...]:
        """The id of each utterance."""
        return tuple(self.utterance(index) for index in range(len(self)))

    @functools.cached_property
    def attributes(self) -> Mapping[str, np.ndarray]:
        """String columns by name, each ``[N]``; an utterance without a value has the empty string."""
        columns = {}
        for name in self.info.columns:
            values = np.array(unpack_strings(self._table, f"column/{name}"))
            columns[name] = values[self._table[f"column/{name}/code"][self._rows]]
        return columns

    @functools.cached_property
    def measures(self) -> Mapping[str, Float32[np.ndarray, " N"]]:
        """Numeric columns by name; an utterance without a value has NaN."""
        return {name: self._table[f"measure/{name}"][self._rows] for name in self.info.measures}

    def utterance(self, index: int) -> str:
        """The id of utterance ``index``, without making those of all others."""
        row = int(self._rows[index])
        return unpack_string(self._table["utterance/text"], self._table["utterance/ends"], row)

    def fbank(self, index: int) -> Float16[np.ndarray, "T F"]:
        """All frames of utterance ``index``.

        Raises:
          UserError: a record cannot be read or is not what the table says; the file and the record are named.
        """
        return self._frames(index, 0, int(self.num_frames[index]))

    def crop(self, index: int, first_frame: int, num_frames: int) -> Float16[np.ndarray, "T F"]:
        """``num_frames`` consecutive frames of utterance ``index``, read from no more records than they lie in.

        A crop that reaches past the end continues at the start of the utterance, as often as needed: a short utterance
        is repeated, as in Kaldi's and WeSpeaker's recipes.

        Args:
          index: which utterance.
          first_frame: where the crop starts, below the utterance's length.
          num_frames: length of the crop, T.

        Raises:
          UserError: as ``fbank``.
        """
        length = int(self.num_frames[index])
        if first_frame + num_frames <= length:
            return self._frames(index, first_frame, num_frames)
        return self.fbank(index)[(first_frame + np.arange(num_frames)) % length]

    def identity(self) -> dict[str, Any]:
        """What tells these shards from others, as JSON values: a fingerprint of data and classes, and their sizes."""
        checksums = [file.sha256 for file in self.info.files] + [self.info.table_sha256]
        return {
            "fingerprint": hashlib.sha256(" ".join(checksums).encode()).hexdigest(),
            "speakers": hash_names(self.speakers),
            "num_speakers": len(self.speakers),
            "num_utterances": len(self),
        }

    def verify(self) -> None:
        """Reads every file of frames and compares it with the checksum taken when it was written.

        Raises:
          UserError: names all files that differ.
        """
        differing = [
            self._path(index).name
            for index, file in enumerate(self.info.files)
            if hash_file(self._path(index)) != file.sha256
        ]
        if differing:
            raise UserError(
                f"{len(differing)} of the files in {self.directory} differ from what was written: "
                f"{', '.join(differing)}. Copy them again from where they came, or prepare the shards again."
            )

    def _frames(self, index: int, first_frame: int, num_frames: int) -> Float16[np.ndarray, "T F"]:
        first_segment, offset = divmod(first_frame, self.info.segment_frames)
        end_segment = -(-(first_frame + num_frames) // self.info.segment_frames)
        segments = [self._segment(index, segment) for segment in range(first_segment, end_segment)]
        frames = segments[0] if len(segments) == 1 else np.concatenate(segments)
        return frames[offset : offset + num_frames]

    def _segment(self, index: int, segment: int) -> Float16[np.ndarray, "T F"]:
        """Segment ``segment`` of an utterance, checked against the table."""
        record = int(self._first_record[index]) + segment
        first_frame = segment * self.info.segment_frames
        length = min(self.info.segment_frames, int(self.num_frames[index]) - first_frame)
        try:
            # Parsed by hand: TensorFlow Datasets' own parser takes several times as long as the read.
            feature = self._parse(self._records[record]).features.feature
            frames = parse_frames(feature, self.info.coding, length)
            names = [feature[name].bytes_list.value[0].decode() for name in ("utterance", "speaker")]
            place = (*names, feature["first_frame"].int64_list.value[0])
        except Exception as error:  # whatever damaged bytes lead to; the reader's own errors are untyped
            raise self._unreadable(record, str(error)) from error
        expected = (self.utterance(index), self.speakers[self.speaker[index]], first_frame)
        if place != expected or frames.shape[1] != self.spec.num_features:
            raise self._unreadable(record, f"it starts at (utterance, speaker, frame) {place}, not at {expected}")
        return frames

    def _unreadable(self, record: int, reason: str) -> UserError:
        file = int(np.searchsorted(self._first_record_of_file, record, side="right")) - 1
        return UserError(
            f"Record {record - self._first_record_of_file[file]} of {self._path(file)} cannot be read: {reason}. The "
            "file is missing or damaged: copy it again from where it came, or prepare the shards again."
        )

    def _path(self, file: int) -> epath.Path:
        return shard_format.shard_path(self.directory, file, len(self.info.files))


class _WholeFile(NamedTuple):
    """What ArrayRecordDataSource takes instead of a path so that it need not open every file to count records."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


def _read_table(directory: epath.Path, info: ShardInfo) -> Table:
    path = directory / TABLE_NAME
    if not path.is_file() or hash_file(path) != info.table_sha256:
        raise UserError(
            f"{path} is missing or differs from what was written. Copy it again from where it came, or prepare the "
            "shards again."
        )
    names = ["speaker", "num_frames", "utterance/text", "utterance/ends"]
    names += [f"column/{column}/{part}" for column in info.columns for part in ("code", "text", "ends")]
    names += [f"measure/{measure}" for measure in info.measures]
    return load_table(path, names)


def _check_table(directory: epath.Path, info: ShardInfo, table: Table) -> None:
    """Checks the table without reading the records."""
    num_utterances = len(table["num_frames"])
    num_records = int(shard_format.first_records(table["num_frames"], info.segment_frames)[-1])
    if (
        not num_utterances
        or len(table["speaker"]) != num_utterances
        or len(table["utterance/ends"]) != num_utterances
        or num_records != sum(file.num_records for file in info.files)
        or int(table["speaker"].min()) < 0
        or int(table["speaker"].max()) >= len(info.speakers)
        or len(set(info.speakers)) < len(info.speakers)
    ):
        raise UserError(f"{directory}: {TABLE_NAME} and {INFO_NAME} do not belong together. Prepare the shards again.")


def _check_sizes(directory: epath.Path, info: ShardInfo) -> None:
    for index, file in enumerate(info.files):
        path = shard_format.shard_path(directory, index, len(info.files))
        size = path.stat().length if path.is_file() else 0
        if size != file.num_bytes:
            raise UserError(
                f"{path} has {size} bytes; {file.num_bytes} were written. The file is missing or truncated: copy it "
                "again from where it came, or prepare the shards again."
            )
