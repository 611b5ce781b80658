"""HTML by functions that escape: what is not already markup can not become any."""

import base64
import html
from collections.abc import Sequence


class Markup(str):
    """Text that is HTML already; every other string is escaped where it is put into an element."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str) -> Markup:
    """An HTML element.

    Args:
      tag: its name.
      children: markup, or text that is escaped.
      attributes: a trailing underscore of a name is dropped (``class_``), others become hyphens (``aria_label``).
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for name, value in attributes.items()
    )
    return Markup(f"<{tag}{given}>{joined(*children)}</{tag}>")


def joined(*children: str) -> Markup:
    """Markup and text, which is escaped, one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(child) for child in children))


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> Markup:
    """A table that scrolls by itself on a narrow screen.

    Args:
      caption: what it shows.
      header: name of each column.
      rows: cells in the order of the header; the first of each names the row.
      words: so many leading columns hold words, the others numbers, which are set to the right.
    """

    alignment: list[dict[str, str]] = [{} if i < words else {"class_": "number"} for i in range(len(header))]
    head = (element("th", name, scope="col", **how) for name, how in zip(header, alignment, strict=True))
    body = (
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", cell, **how) for cell, how in zip(row[1:], alignment[1:], strict=True)),
        )
        for row in rows
    )
    content = element(
        "table", element("caption", caption), element("thead", element("tr", *head)), element("tbody", *body)
    )
    return element("div", content, class_="scroll", role="region", aria_label=caption, tabindex="0")


def picture(svg: str, description: str, caption: str, *, width: str = "40rem") -> Markup:
    """An SVG inside the page, as an image: nothing in it can clash with the page or run.

    Args:
      svg: its text.
      description: read to those who can not see it.
      caption: below it.
      width: at most this wide.
    """
    data = base64.b64encode(svg.encode()).decode()
    image = Markup(
        f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(description)}" '
        f'style="max-width:min(100%,{html.escape(width)})">'
    )
    return element("figure", image, element("figcaption", caption))
