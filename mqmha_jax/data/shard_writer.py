"""Writes a directory of fbank shards: all of it or nothing."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Float

import mqmha_jax
from mqmha_jax.atomic import sync, sync_tree
from mqmha_jax.config import FbankSpec
from mqmha_jax.data import shard_format
from mqmha_jax.data.shard_format import RECORDS_PER_SHARD, SEGMENT_FRAMES, ShardFile, ShardInfo
from mqmha_jax.errors import UserError


class UtteranceFbank(NamedTuple):
    """One utterance for the writer.

    Attributes:
      utterance: its id, unique in the directory.
      speaker: name of the speaker.
      fbank: un-normalised log-mel frames, float16 or float32.
      attributes: string columns beside the id, e.g. ``{"session": "..."}``.
    """

    utterance: str
    speaker: str
    fbank: Float[np.ndarray, "T F"]
    attributes: Mapping[str, str] = {}


def write_shards(
    directory: str | Path,
    utterances: Iterable[UtteranceFbank],
    *,
    spec: FbankSpec,
    provenance: Mapping[str, Any],
    records_per_shard: int = RECORDS_PER_SHARD,
) -> None:
    """Writes utterances to a new directory of shards, with the speakers in sorted order.

    Args:
      directory: created, with its parents; must not exist or be empty.
      utterances: at least one.
      spec: how the frames were computed; ``spec.num_features`` is F.
      provenance: where the data came from, as JSON values.
      records_per_shard: records of at most ``SEGMENT_FRAMES`` frames in one file.

    Raises:
      UserError: the directory is taken, there are no utterances, an id appears twice, frames are not finite or have the
        wrong shape, or the disk is full. Nothing is left at ``directory`` then.
    """
    with shard_writer(directory, spec=spec, provenance=provenance, records_per_shard=records_per_shard) as writer:
        for utterance in utterances:
            writer.add(utterance)


@contextlib.contextmanager
def shard_writer(
    directory: str | Path,
    *,
    spec: FbankSpec,
    provenance: Mapping[str, Any],
    records_per_shard: int = RECORDS_PER_SHARD,
    speaker_key: Callable[[str], Any] | None = None,
) -> Iterator["ShardWriter"]:
    """A ``ShardWriter`` whose directory appears, complete, when the ``with`` block ends without an exception.

    Args:
      directory, spec, provenance, records_per_shard: as for ``write_shards``.
      speaker_key: sort key of the speakers' names, which sets the order of the classes; None: by name.

    Raises:
      UserError: as ``write_shards``.
    """
    target = Path(directory)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{target} already exists. Choose another output directory, or remove this one first.")
    temporary = target.with_name(f".{target.name}.partial-{os.getpid()}-{time.monotonic_ns()}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{target} can not be made: {error}. Choose another output directory.") from error
    writer = ShardWriter(temporary, spec, provenance, records_per_shard, speaker_key)
    try:
        yield writer
        writer.finish()
        os.rename(temporary, target)
        sync(target.parent)
    except (OSError, RuntimeError) as error:
        if not _is_disk_full(error):
            raise
        raise UserError(_disk_full_message(target, writer, error)) from error
    finally:
        writer.abandon()
        shutil.rmtree(temporary, ignore_errors=True)


class ShardWriter:
    """Cuts utterances into records and fills one ArrayRecord file after the other."""

    def __init__(
        self,
        directory: Path,
        spec: FbankSpec,
        provenance: Mapping[str, Any],
        records_per_shard: int,
        speaker_key: Callable[[str], Any] | None,
    ) -> None:
        self.directory = directory
        """Where the shards grow; other files put here become part of the result."""
        self._spec = spec
        self._provenance = dict(provenance)
        self._records_per_shard = records_per_shard
        self._speaker_key = speaker_key
        self._features = shard_format.record_features(spec.num_features)
        self._file: Any = None
        self._records_in_files: list[int] = []
        self._utterances: dict[str, None] = {}
        self._speakers: dict[str, int] = {}
        self._speaker_of: list[int] = []
        self._num_frames: list[int] = []
        self._columns: dict[str, list[str]] = {}

    @property
    def num_utterances(self) -> int:
        """Utterances added so far."""
        return len(self._utterances)

    def add(self, utterance: UtteranceFbank) -> None:
        """Appends one utterance.

        Raises:
          UserError: its id was added before, or its frames are not finite ``[T, F]`` with T > 0.
        """
        name, speaker, fbank, attributes = utterance
        if name in self._utterances:
            raise UserError(f"Utterance id {name!r} appears twice. Ids must be unique: remove or rename one of them.")
        if fbank.ndim != 2 or fbank.shape[0] == 0 or fbank.shape[1] != self._spec.num_features:
            raise UserError(
                f"Utterance {name!r} has frames of shape {fbank.shape}; the filterbank gives (T, "
                f"{self._spec.num_features}) with at least one frame."
            )
        try:
            "".join([name, speaker, *attributes.values()]).encode()
        except UnicodeEncodeError:
            raise UserError(f"Utterance {name!r}: its names are not valid UTF-8. Rename the file.") from None
        stored = fbank.astype(np.float16)
        if not np.isfinite(stored).all():
            raise UserError(f"Utterance {name!r} has frames that are not finite in float16. Leave the recording out.")
        for first in range(0, len(stored), SEGMENT_FRAMES):
            segment = stored[first : first + SEGMENT_FRAMES]
            self._write({"utterance": name, "speaker": speaker, "first_frame": first, "fbank": segment})
        for column in self._columns.keys() | attributes.keys():
            values = self._columns.setdefault(column, [""] * self.num_utterances)
            values.append(attributes.get(column, ""))
        self._utterances[name] = None
        self._speaker_of.append(self._speakers.setdefault(speaker, len(self._speakers)))
        self._num_frames.append(len(stored))

    def finish(self) -> None:
        """Closes the files and writes the metadata, all of it on disk when this returns.

        Raises:
          UserError: no utterance was added.
        """
        if not self._utterances:
            raise UserError("There are no utterances to write; check the corpus, its path and its file types.")
        self._close_file()
        count = len(self._records_in_files)
        files = []
        for index, num_records in enumerate(self._records_in_files):
            path = shard_format.shard_path(self.directory, index, count)
            os.rename(self._growing_path(index), path)
            size, checksum = path.stat().st_size, shard_format.sha256(path)
            files.append(ShardFile(num_records=num_records, num_bytes=size, sha256=checksum))
        _write_tfds_metadata(self.directory, self._features, files)
        speakers = tuple(sorted(self._speakers, key=self._speaker_key))
        self._write_table(speakers)
        info = ShardInfo(
            format_version=shard_format.FORMAT_VERSION,
            created_by=f"mqmha_jax {mqmha_jax.__version__}",
            provenance=self._provenance,
            fbank=self._spec,
            segment_frames=SEGMENT_FRAMES,
            speakers=speakers,
            columns=tuple(sorted(self._columns)),
            files=tuple(files),
            table_sha256=shard_format.sha256(self.directory / shard_format.TABLE_NAME),
        )
        (self.directory / shard_format.INFO_NAME).write_text(info.model_dump_json(indent=1) + "\n")
        sync_tree(self.directory)

    def abandon(self) -> None:
        """Lets go of an open file; without effect after ``finish``."""
        if self._file is not None:
            with contextlib.suppress(RuntimeError):  # the error that led here is the one to report
                self._file.close()
            self._file = None

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is not None and self._records_in_files[-1] == self._records_per_shard:
            self._close_file()
        if self._file is None:
            # group_size 1: a record can be read without its neighbours.
            self._file = ArrayRecordWriter(str(self._growing_path(len(self._records_in_files))), "group_size:1")
            self._records_in_files.append(0)
        self._file.write(self._features.serialize_example(record))
        self._records_in_files[-1] += 1
        if not self._file.ok():  # a failed write is silent; closing says what failed
            self._close_file()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        file.close()

    def _growing_path(self, index: int) -> Path:
        return self.directory / f"growing-{index:05d}"  # the final name holds the number of files, not known yet

    def _write_table(self, speakers: tuple[str, ...]) -> None:
        rank = {name: position for position, name in enumerate(speakers)}
        class_of = np.array([rank[name] for name in self._speakers], np.int32)
        arrays = {
            "speaker": class_of[self._speaker_of],
            "num_frames": np.array(self._num_frames, np.int32),
        }
        arrays["utterance/text"], arrays["utterance/ends"] = shard_format.pack_strings(self._utterances)
        for column, strings in self._columns.items():
            values = sorted(set(strings))
            code = {value: position for position, value in enumerate(values)}
            arrays[f"column/{column}/code"] = np.array([code[string] for string in strings], np.int32)
            arrays[f"column/{column}/text"], arrays[f"column/{column}/ends"] = shard_format.pack_strings(values)
        np.savez_compressed(self.directory / shard_format.TABLE_NAME, allow_pickle=False, **arrays)


def _write_tfds_metadata(directory: Path, features: Any, files: list[ShardFile]) -> None:
    import tensorflow_datasets as tfds

    split = tfds.core.SplitInfo(
        name="train",
        shard_lengths=[file.num_records for file in files],
        num_bytes=sum(file.num_bytes for file in files),
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=directory, dataset_name="fbank", split="train", filetype_suffix="array_record"
        ),
    )
    # check_data opens the data with TensorFlow, which need not be installed.
    tfds.folder_dataset.write_metadata(data_dir=directory, features=features, split_infos=[split], check_data=False)


def _is_disk_full(error: OSError | RuntimeError) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))  # as ArrayRecord says it


def _disk_full_message(target: Path, writer: ShardWriter, error: Exception) -> str:
    free = shutil.disk_usage(target.parent).free
    written = sum(path.stat().st_size for path in writer.directory.iterdir())
    return (
        f"The disk is full ({error}). {writer.num_utterances} utterances took {written / 1e6:.1f} MB of shards in "
        f"{target.parent}, which has {free / 1e6:.1f} MB left; what was written is removed again and {target} does not "
        "exist. Free some space, or choose an output directory on another disk."
    )
