"""Tables of plain text."""

from collections.abc import Sequence

from tabulate import tabulate


def align_table(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Lines up columns under a header.

    Args:
      rows: the header, then the rows; cells are printed as they are.
      numbers: align all columns but the first to the right.
    """
    right = ("left", *["right"] * (len(rows[0]) - 1)) if numbers else None
    return tabulate(rows[1:], rows[0], colalign=right, disable_numparse=True)
