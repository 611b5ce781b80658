"""A CSV list of recordings: columns ``path`` and ``speaker``, and any others."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from data_prep.corpora.confined import confine
from data_prep.corpora.list_checks import collect_recordings, find_root
from data_prep.corpora.list_part import PART, parse_number, take_part
from data_prep.corpora.sources import FilePart
from data_prep.manifest import Recording
from mqmha_jax.data.csv_table import open_table
from mqmha_jax.data.ids import plain_id
from mqmha_jax.errors import UserError
from mqmha_jax.features.part import WHOLE

REQUIRED = ("path", "speaker")


def csv_recordings(list_path: str | Path, root: str | Path | None = None) -> list[Recording]:
    """A CSV list with the columns path and speaker.

    Args:
      list_path: UTF-8 with a header line. A column ``utterance`` gives the ids, which otherwise are the paths;
        ``start_s``, ``end_s`` and ``channel`` (from 0) name a part; other columns become attributes.
      root: folder that the paths start from and must not leave; None: the folder of the list.

    Returns:
      Recordings in the order of the list.

    Raises:
      UserError: the list is missing, empty or not UTF-8, lacks a column or has one twice, or a line lacks a value,
        names no part, repeats an id or names a path outside the root.
    """
    list_path = Path(list_path)
    root = find_root(list_path, root, form="a CSV file with the columns path and speaker")
    try:
        with list_path.open(encoding="utf-8-sig", newline="") as file:
            return collect_recordings(
                _read_rows(file, list_path, root), list_path, parts="name each one in a column utterance"
            )
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{list_path}: not a CSV file in UTF-8 ({error}).") from None


def _read_rows(file: TextIO, list_path: Path, root: Path) -> Iterator[tuple[int, Recording]]:
    reader = open_table(file, restval="")
    header = reader.fieldnames or ()
    if missing := [name for name in REQUIRED if name not in header]:
        raise UserError(
            f"{list_path}:1: no column {' and '.join(missing)}; the header is {','.join(header) or 'empty'}. "
            "The first line must name the columns path and speaker, separated by commas."
        )
    for row in reader:
        line = reader.line_num
        if None in row:
            raise UserError(f"{list_path}:{line}: more values than the header has columns ({len(header)}).")
        yield line, _read_recording(row, root, f"{list_path}:{line}")


def _read_recording(row: dict[str, str], root: Path, where: str) -> Recording:
    path, speaker = row.pop("path"), row.pop("speaker")
    row.pop("", None)  # columns without a name, which spreadsheets write
    if not path or not speaker:
        raise UserError(f"{where}: no {'speaker' if path else 'path'}; every line needs both.")
    utterance = row.pop("utterance", path)
    if not utterance:
        raise UserError(f"{where}: no utterance; give every line one, or leave the column out.")
    part = take_part({name: parse_number(row.pop(name)) for name in PART if name in row}, where)
    file = confine(root, path, where)
    attributes = {name: value.strip() for name, value in row.items()}
    return Recording(plain_id(utterance), speaker, file if part == WHOLE else FilePart(file, part), attributes)
