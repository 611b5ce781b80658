"""The parts of an HTML page, by Jinja2 templates that escape whatever is not markup already."""

import base64
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

__all__ = [
    "Markup", "box", "code", "columns", "contents", "definitions", "heading", "html_page", "join", "paragraph",
    "picture", "player", "png_picture", "points", "section", "strong", "table", "two_lines", "with_small",
]  # fmt: skip


@functools.cache
def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("mqmha_jax.evaluation.report.html")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


@functools.cache
def _parts() -> Any:
    return _templates().get_template("parts.html").module


def html_page(title: str, *body: Markup) -> str:
    """A whole HTML document in one file.

    Args:
      title: of the window and the first heading.
      body: markup below the heading.
    """
    return _templates().get_template("page.html").render(title=title, body=body) + "\n"


def join(*children: str) -> Markup:
    """Markup and text, which is escaped, one after the other."""
    return Markup("").join(children)


def section(*children: Markup) -> Markup:
    """Children that belong together."""
    return Markup("<section>{}</section>").format(join(*children))


def heading(level: int, text: str, anchor: str = "") -> Markup:
    """A heading; links lead to ``#anchor``."""
    return _parts().heading(level, text, anchor)


def paragraph(*children: str, note: bool = False) -> Markup:
    """A paragraph of text and markup; a note is set in a softer colour."""
    return _parts().paragraph(join(*children), note)


def points(items: Sequence[str]) -> Markup:
    """A list with a point for each item."""
    return _parts().points(items)


def contents(places: Mapping[str, str]) -> Markup:
    """Links to anchors, by the names to show."""
    return _parts().contents(places)


def definitions(entries: Mapping[str, str]) -> Markup:
    """Terms and what they mean."""
    return _parts().definitions(entries)


def box(*children: Markup) -> Markup:
    """A box that catches the eye."""
    return _parts().box(children)


def columns(*children: Sequence[Markup]) -> Markup:
    """Groups of parts beside each other where the page is wide enough, else below each other."""
    return _parts().columns([Markup("<div>{}</div>").format(join(*group)) for group in children])


def strong(text: str) -> Markup:
    """Important words."""
    return _parts().strong(text)


def code(text: str) -> Markup:
    """Words for a computer."""
    return _parts().code(text)


def with_small(text: str, small: str) -> Markup:
    """A table cell with a second line in small print."""
    return _parts().with_small(text, small)


def two_lines(one: str, other: str, *, is_id: bool = False) -> Markup:
    """A table cell for the two sides of a trial; ids may break anywhere."""
    return _parts().two_lines(one, other, is_id)


def player(audio: bytes, media_type: str, description: str) -> Markup:
    """A player of a recording inside the page.

    Args:
      audio: the file's bytes.
      media_type: such as "audio/flac".
      description: read to those who cannot see it.
    """
    return _parts().player(_data_url(audio, media_type), description)


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> Markup:
    """A table that scrolls by itself on a narrow screen.

    Args:
      caption: what it shows.
      header: name of each column.
      rows: cells in the order of the header; the first of each names the row.
      words: number of leading columns that hold words; the others hold numbers, which are set to the right.
    """
    return _parts().table(caption, header, rows, words)


def picture(svg: str, description: str, caption: str, *, width: str = "44rem") -> Markup:
    """An SVG inside the page, as an image: nothing in it can clash with the page or run.

    Args:
      svg: its text.
      description: read to those who cannot see it.
      caption: below it.
      width: at most this wide.
    """
    return _parts().picture(_data_url(svg.encode(), "image/svg+xml"), description, caption, width)


def png_picture(png: bytes, caption: str) -> Markup:
    """A PNG inside the page, with its caption."""
    return _parts().picture(_data_url(png, "image/png"), "", caption, "")


def _data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
