"""Tables in CSV with a header line, as people write them: spaces after the commas are ignored."""

import csv
from typing import TextIO

from mqmha_jax.errors import UserError


def open_table(file: TextIO, *, restval: str | None = None) -> "csv.DictReader[str]":
    """A reader of the rows below the header.

    Args:
      file: at its start, opened with ``newline=""``.
      restval: the value of columns that a row lacks.

    Returns:
      A reader with column names that have no blanks around them; columns without a name are called "". If the header
      has blanks after its commas, those of the rows do not count either; otherwise a blank there belongs to the value.

    Raises:
      csv.Error: the header is not CSV.
      UserError: two columns have one name, so that one of them would not count.
    """
    names = next(csv.reader([file.readline()]), [])
    file.seek(0)
    blanks = any(name[:1] == " " for name in names)
    reader = csv.DictReader(file, restval=restval, strict=True, skipinitialspace=blanks)
    header = [name.strip() for name in reader.fieldnames or ()]
    if twice := next((name for name in filter(None, header) if header.count(name) > 1), None):
        raise UserError(f"{file.name}:1: two columns are called {twice!r}. Rename or remove one of them.")
    reader.fieldnames = header
    return reader
