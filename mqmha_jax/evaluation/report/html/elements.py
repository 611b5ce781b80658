"""Makes the parts of an HTML page from Jinja2 templates that escape all text."""

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
    """Makes a whole HTML document in one file; bytes of a path that are not UTF-8 are escaped.

    Args:
      title: title of the window and first heading.
      body: markup below the heading.
    """
    page = _templates().get_template("page.html").render(title=title, body=body) + "\n"
    return page.encode(errors="backslashreplace").decode()


def join(*children: str) -> Markup:
    """Joins markup and text; the text is escaped."""
    return Markup("").join(children)


def section(*children: Markup) -> Markup:
    """Groups parts that belong together."""
    return Markup("<section>{}</section>").format(join(*children))


def heading(level: int, text: str, anchor: str = "") -> Markup:
    """Makes a heading, which links reach as ``#anchor``."""
    return _parts().heading(level, text, anchor)


def paragraph(*children: str, note: bool = False) -> Markup:
    """Makes a paragraph of text and markup; a note has a softer colour."""
    return _parts().paragraph(join(*children), note)


def points(items: Sequence[str]) -> Markup:
    """Makes a bulleted list."""
    return _parts().points(items)


def contents(places: Mapping[str, str]) -> Markup:
    """Makes links to anchors.

    Args:
      places: anchor to the name to show.
    """
    return _parts().contents(places)


def definitions(entries: Mapping[str, str]) -> Markup:
    """Makes a list of terms and what they mean."""
    return _parts().definitions(entries)


def box(*children: Markup) -> Markup:
    """Makes a box that catches the eye."""
    return _parts().box(children)


def columns(*children: Sequence[Markup]) -> Markup:
    """Puts groups of parts beside each other if the page is wide enough, else below each other."""
    return _parts().columns([Markup("<div>{}</div>").format(join(*group)) for group in children])


def strong(text: str) -> Markup:
    """Marks important words."""
    return _parts().strong(text)


def code(text: str) -> Markup:
    """Sets text as code."""
    return _parts().code(text)


def with_small(text: str, small: str) -> Markup:
    """Makes a table cell with a second line in small print."""
    return _parts().with_small(text, small)


def two_lines(one: str, other: str, *, is_id: bool = False) -> Markup:
    """Makes a table cell for the two sides of a trial; ids may break at any character."""
    return _parts().two_lines(one, other, is_id)


def player(audio: bytes, media_type: str, description: str) -> Markup:
    """Embeds a player of a recording in the page.

    Args:
      audio: bytes of the file.
      media_type: such as "audio/flac".
      description: text for screen readers.
    """
    return _parts().player(_data_url(audio, media_type), description)


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> Markup:
    """Makes a table that scrolls by itself on a narrow screen.

    Args:
      caption: what the table shows.
      header: name of each column.
      rows: cells in the order of the header; the first cell names the row.
      words: number of leading columns that hold words; the others hold numbers, which are aligned right.
    """
    return _parts().table(caption, header, rows, words)


def picture(svg: str, description: str, caption: str, *, width: str = "44rem") -> Markup:
    """Embeds an SVG in the page as an image, so that nothing in it can clash with the page or run.

    Args:
      svg: text of the SVG.
      description: text for screen readers.
      caption: text below the picture.
      width: maximum width.
    """
    return _parts().picture(_data_url(svg.encode(), "image/svg+xml"), description, caption, width)


def png_picture(png: bytes, caption: str) -> Markup:
    """Embeds a PNG in the page, with its caption."""
    return _parts().picture(_data_url(png, "image/png"), "", caption, "")


def _data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
