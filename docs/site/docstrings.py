"""Docstrings use reStructuredText's small marks; the site shows Markdown."""

import re
from typing import Any

import griffe

_TABLE = re.compile(r"^(=+ +=.*)\n(.*)\n=+ +=.*\n((?:.*\n)*?)=+ +=.*$", re.M)


class PlainMarks(griffe.Extension):
    """Turns roles, literal blocks, links and tables into Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    """``:func:`f```, ``text::``, `` `title <url>`_ `` and a table of ``===`` as Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"`([^`<]+?)\s+<(http[^>]+)>`_", r"[\1](\2)", text)
    text = re.sub(r"::\n\n", ":\n\n", text)
    return _TABLE.sub(_markdown_table, text)


def _markdown_table(table: re.Match[str]) -> str:
    columns = [column.span() for column in re.finditer("=+", table[1])]
    header, *rows = (
        "| " + " | ".join(line[start:end].strip() for start, end in columns) + " |"
        for line in (table[2], *table[3].splitlines())
    )
    return "\n".join([header, "| " + " | ".join("---" for _ in columns) + " |", *rows])
