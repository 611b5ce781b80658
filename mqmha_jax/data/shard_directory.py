"""Completes a directory of shards: adds the table and the descriptions to the ArrayRecord files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mqmha_jax
from mqmha_jax.atomic import sync_tree
from mqmha_jax.config import FbankSpec
from mqmha_jax.data import shard_format
from mqmha_jax.data.shard_coding import Coding
from mqmha_jax.data.shard_format import SEGMENT_FRAMES, ShardFile, ShardInfo
from mqmha_jax.data.shard_table import Table, merge, save_table
from mqmha_jax.errors import UserError
from mqmha_jax.file_hash import hash_file


def complete_directory(
    directory: Path,
    files: Sequence[ShardFile],
    tables: Sequence[Table],
    *,
    spec: FbankSpec,
    coding: Coding,
    provenance: Mapping[str, Any],
    speaker_key: Callable[[str], Any] | None = None,
    job: str = "",
) -> ShardInfo:
    """Writes everything but the frames, ``shards.json`` last; all of it is on the disk when this returns.

    Args:
      directory: holds the ArrayRecord files under the names of ``shard_format.shard_path``.
      files: what was noted about each.
      tables: the utterances of each.
      spec: how the frames were computed.
      coding: how they are stored.
      provenance: where the data came from, as JSON values.
      speaker_key: sort key of the speakers' names, which sets the order of the classes; None: by name.
      job: as in ``ShardInfo``.

    Raises:
      UserError: there are no utterances, or an id appears twice.
    """
    if not sum(len(table["num_frames"]) for table in tables):
        raise UserError("There are no utterances to write; check the corpus, its path and its file types.")
    merged = merge(tables, speaker_key)
    table_path = directory / shard_format.TABLE_NAME
    save_table(table_path, merged.table)
    _write_tfds_metadata(directory, shard_format.record_features(spec.num_features, coding), files)
    info = ShardInfo(
        format_version=shard_format.FORMAT_VERSION,
        created_by=f"mqmha_jax {mqmha_jax.__version__}",
        provenance=dict(provenance),
        fbank=spec,
        segment_frames=SEGMENT_FRAMES,
        speakers=merged.speakers,
        columns=merged.columns,
        files=tuple(files),
        table_sha256=hash_file(table_path),
        measures=merged.measures,
        coding=coding,
        job=job,
        other_files=_hash_other_files(directory, len(files)),
    )
    shard_format.write_info(directory / shard_format.INFO_NAME, info)
    sync_tree(directory)
    return info


def _hash_other_files(directory: Path, num_files: int) -> dict[str, str]:
    known = {shard_format.shard_path(directory, index, num_files) for index in range(num_files)}
    known |= {directory / shard_format.TABLE_NAME}
    return {path.name: hash_file(path) for path in sorted(directory.iterdir()) if path not in known}


def _write_tfds_metadata(directory: Path, features: Any, files: Sequence[ShardFile]) -> None:
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
