"""A report as a list of headings, texts, tables and pictures, written as Markdown and as one HTML page."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mqmha_jax.evaluation.report.html.elements import Markup, element, joined, table
from mqmha_jax.evaluation.report.html.page import html_page

_STRONG = re.compile(r"\*\*(.+?)\*\*")


class Heading(NamedTuple):
    """A heading below the title."""

    text: str


class Text(NamedTuple):
    """A paragraph; ``**so**`` is strong."""

    text: str


class Points(NamedTuple):
    """A list of sentences; ``**so**`` is strong."""

    items: Sequence[str]


class Table(NamedTuple):
    """A table whose first column holds words, the others numbers."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Picture(NamedTuple):
    """A PNG file beside the report."""

    path: Path
    description: str


Block = Heading | Text | Points | Table | Picture


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """The report for people who read it beside the code."""
    return "\n\n".join([f"# {title}", *map(_markdown, blocks)]) + "\n"


def html(title: str, blocks: Sequence[Block]) -> str:
    """The same as one file that needs nothing else, pictures included."""
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
            rule = ["---", *["---:"] * (len(header) - 1)]
            lines = [
                "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (header, rule, *rows)
            ]
            return "\n".join([f"{caption}:", "", *lines])
        case Picture(path, description):
            return f"![{description}]({path.name})"


def _html(block: Block) -> Markup:
    match block:
        case Heading(text):
            return element("h2", text)
        case Text(text):
            return element("p", _strong(text))
        case Points(items):
            return element("ul", *(element("li", _strong(item)) for item in items))
        case Table(caption, header, rows):
            return table(caption, header, rows)
        case Picture(path, description):
            data = base64.b64encode(path.read_bytes()).decode()
            image = Markup(f'<img src="data:image/png;base64,{data}" alt="">')
            return element("figure", image, element("figcaption", description))


def _strong(text: str) -> Markup:
    parts = _STRONG.split(text)  # every second one stood between stars
    return joined(*(element("strong", part) if i % 2 else part for i, part in enumerate(parts)))
