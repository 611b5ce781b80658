"""A report as a list of headings, texts, tables and pictures, written as Markdown and as one HTML page."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from mqmha_jax.evaluation.report.html.elements import (
    Markup,
    heading,
    html_page,
    join,
    paragraph,
    png_picture,
    points,
    strong,
    table,
)

_STRONG = re.compile(r"\*\*(.+?)\*\*")


class Heading(NamedTuple):
    """A heading below the title."""

    text: str


class Text(NamedTuple):
    """A paragraph; ``**text**`` is strong."""

    text: str


class Points(NamedTuple):
    """A list of sentences; ``**text**`` is strong."""

    items: Sequence[str]


class Table(NamedTuple):
    """A table. The first column holds words, the others hold numbers."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Picture(NamedTuple):
    """A PNG file beside the report."""

    path: Path
    description: str


Block = Heading | Text | Points | Table | Picture


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """Writes the report as Markdown, for reading beside the code."""
    return "\n\n".join([f"# {title}", *map(_markdown, blocks)]) + "\n"


def html(title: str, blocks: Sequence[Block]) -> str:
    """Writes the report as one HTML file that includes its pictures."""
    return html_page(title, *map(_html, blocks))


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {text}"
        case Text(text):
            return text
        case Points(items):
            return "\n".join(f"- {item}" for item in items)
        case Table(caption, header, rows):
            escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
            numbers = ("left", *["right"] * (len(header) - 1))
            text = tabulate(escaped, header, tablefmt="pipe", colalign=numbers, disable_numparse=True)
            return f"{caption}:\n\n{text}"
        case Picture(path, description):
            return f"![{description}]({path.name})"


def _html(block: Block) -> Markup:
    match block:
        case Heading(text):
            return heading(2, text)
        case Text(text):
            return paragraph(_strong(text))
        case Points(items):
            return points([_strong(item) for item in items])
        case Table(caption, header, rows):
            return table(caption, header, rows)
        case Picture(path, description):
            return png_picture(path.read_bytes(), description)


def _strong(text: str) -> Markup:
    parts = _STRONG.split(text)  # every second part stood between stars
    return join(*(strong(part) if i % 2 else part for i, part in enumerate(parts)))
