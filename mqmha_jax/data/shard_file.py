"""One ArrayRecord file of frames and the table of its utterances."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Float
from tensorflow_datasets.proto import tf_example_pb2

from mqmha_jax.config import FbankSpec
from mqmha_jax.data.ids import check_id
from mqmha_jax.data.shard_coding import Coding, encode
from mqmha_jax.data.shard_format import SEGMENT_FRAMES, ShardFile
from mqmha_jax.data.shard_table import Table, TableBuilder, duplicate_id
from mqmha_jax.errors import UserError
from mqmha_jax.file_hash import hash_file


class UtteranceFbank(NamedTuple):
    """One utterance for the writer.

    Attributes:
      utterance: its id, unique in the directory.
      speaker: name of the speaker.
      fbank: un-normalised log-mel frames, float16 or float32.
      attributes: string columns other than the id, e.g. ``{"session": "..."}``.
      measures: numeric columns, e.g. ``{"snr_db": 12.5}``.
    """

    utterance: str
    speaker: str
    fbank: Float[np.ndarray, "T F"]
    attributes: Mapping[str, str] = {}
    measures: Mapping[str, float] = {}


class ShardFileWriter:
    """Cuts utterances into records of one file."""

    def __init__(self, path: Path, spec: FbankSpec, coding: Coding = "float16") -> None:
        """Opens the file.

        Args:
          path: of the file; grows as utterances are added, so give a temporary name.
          spec: how the frames were computed.
          coding: how they are stored.
        """
        self.path = path
        self.num_records = 0
        self._spec = spec
        self._coding: Coding = coding
        self._table = TableBuilder()
        # group_size 1: a record can be read without its neighbours.
        self._file: Any = ArrayRecordWriter(str(path), "group_size:1")

    @property
    def num_utterances(self) -> int:
        """Utterances added so far."""
        return len(self._table)

    def add(self, utterance: UtteranceFbank) -> None:
        """Appends one utterance.

        Raises:
          UserError: its id was added before, its names are not UTF-8, or its frames are not finite ``[T, F]`` with
            T > 0.
        """
        name, speaker, fbank, attributes, measures = utterance
        if name in self._table:
            raise duplicate_id(name)
        if fbank.ndim != 2 or fbank.shape[0] == 0 or fbank.shape[1] != self._spec.num_features:
            raise UserError(
                f"Utterance {name!r} has frames of shape {fbank.shape}; the filterbank gives (T, "
                f"{self._spec.num_features}) with at least one frame."
            )
        try:
            "".join([name, speaker, *attributes.values()]).encode()
        except UnicodeEncodeError:
            raise UserError(f"Utterance {name!r}: its names are not valid UTF-8. Rename the file.") from None
        check_id(name, "The id of an utterance,")
        check_id(speaker, f"Utterance {name!r}: the name of its speaker,")
        with np.errstate(over="ignore"):  # what overflows is refused in the next line
            stored = fbank.astype(np.float16)
        if not np.isfinite(stored).all():
            raise UserError(f"Utterance {name!r} has frames that are not finite in float16. Leave the recording out.")
        self._write_records(name, speaker, stored)
        self._table.add(name, speaker, len(stored), attributes, measures)

    def close(self) -> tuple[ShardFile, Table]:
        """Completes the file; its bytes may still be in the system's buffers.

        Returns:
          What to note about the file, and its table.
        """
        self._close()
        size, checksum = self.path.stat().st_size, hash_file(self.path)
        return ShardFile(num_records=self.num_records, num_bytes=size, sha256=checksum), self._table.arrays()

    def abandon(self) -> None:
        """Lets go of an open file; without effect after ``close``."""
        if self._file is not None:
            with contextlib.suppress(RuntimeError):  # the error that led here is the one to report
                self._close()

    def _write_records(self, utterance: str, speaker: str, fbank: Float[np.ndarray, "T F"]) -> None:
        if self._coding == "float16":
            frames, per_bin = fbank, {}
        else:
            coded = encode(fbank)
            frames, per_bin = coded.code, {"scale": coded.scale, "offset": coded.offset}
        for first in range(0, len(frames), SEGMENT_FRAMES):
            segment = {"fbank": frames[first : first + SEGMENT_FRAMES], **per_bin}
            self._file.write(_record(utterance, speaker, first, segment))
            self.num_records += 1
            if not self._file.ok():  # a failed write is silent; closing says what failed
                self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        file.close()


def _record(utterance: str, speaker: str, first_frame: int, arrays: Mapping[str, np.ndarray]) -> bytes:
    """What TensorFlow Datasets reads as ``shard_format.record_features``.

    Written here, because its own serialiser orders the fields randomly, differently in each process.
    """
    example = tf_example_pb2.Example()
    feature = example.features.feature
    feature["utterance"].bytes_list.value.append(utterance.encode())
    feature["speaker"].bytes_list.value.append(speaker.encode())
    feature["first_frame"].int64_list.value.append(first_frame)
    for name, array in arrays.items():
        feature[name].bytes_list.value.append(array.tobytes())
    return example.SerializeToString(deterministic=True)


@contextlib.contextmanager
def name_full_disk(target: Path, afterwards: str) -> Iterator[None]:
    """Turns the errors of a full disk, from Python or ArrayRecord, into a clear message.

    Args:
      target: what was being written.
      afterwards: a sentence on what became of the work so far.

    Raises:
      UserError: the disk is full. Other errors pass.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not _is_disk_full(error):
            raise
        free = shutil.disk_usage(target.parent).free
        raise UserError(
            f"The disk is full ({error}): {target.parent} has {free / 1e6:.1f} MB left. {afterwards} Free some space, "
            "or choose an output directory on another disk."
        ) from error


def _is_disk_full(error: OSError | RuntimeError) -> bool:
    codes = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError):
        return error.errno in codes
    return any(os.strerror(code) in str(error) for code in codes)  # as ArrayRecord says it
