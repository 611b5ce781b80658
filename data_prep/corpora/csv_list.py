"""A CSV list of recordings: columns ``path`` and ``speaker``, and any others."""

import csv
from pathlib import Path

from data_prep.corpora.confined import confined
from data_prep.manifest import Recording
from mqmha_jax.errors import UserError

REQUIRED = ("path", "speaker")


def csv_recordings(list_path: str | Path, root: str | Path | None = None) -> list[Recording]:
    """A CSV list with the columns path and speaker.

    Args:
      list_path: UTF-8 with a header line; other columns than ``path`` and ``speaker`` become attributes.
      root: what the paths are relative to, and do not lead out of; None: the folder of the list.

    Returns:
      Recordings in the order of the list; the id is the path as it is written there.

    Raises:
      UserError: the list is missing, empty or not UTF-8, lacks a column, or a line lacks a value, repeats a path
        or names one outside of the root.
    """
    list_path = Path(list_path)
    if not list_path.is_file():
        raise UserError(f"No such list: {list_path}. Give a CSV file with the columns path and speaker.")
    root = list_path.parent if root is None else Path(root)
    if not root.is_dir():
        raise UserError(f"No such folder: {root}. --root is what the paths in {list_path} are relative to.")
    recordings = []
    line_of: dict[str, int] = {}
    try:
        with list_path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
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
                path, speaker = row.pop("path"), row.pop("speaker")
                if not path or not speaker:
                    raise UserError(f"{list_path}:{line}: no {'speaker' if path else 'path'}; every line needs both.")
                if path in line_of:
                    raise UserError(
                        f"{list_path}:{line}: path {path!r} was listed before, in line {line_of[path]}; it is the "
                        "utterance id and must be unique. Remove one of the two lines."
                    )
                line_of[path] = line
                recordings.append(
                    Recording(
                        utterance=path,
                        speaker=speaker,
                        source=confined(root, path, f"{list_path}:{line}"),
                        attributes=row,
                    )
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{list_path}: not a CSV file in UTF-8 ({error}).") from None
    if not recordings:
        raise UserError(f"{list_path} lists no recordings.")
    return recordings
