"""The frame of an HTML report: one file that needs nothing else, readable on a phone, on paper and in the dark."""

from mqmha_jax.evaluation.report.html.elements import Markup, element

# Nothing may be loaded from anywhere and no script may run, whatever the names in a trial list look like.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1d; --soft: #5b5b5b; --paper: #fff; --line: #d8d8d8; --shade: #f4f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #adadad; --paper: #161719; --line: #3c3e42; --shade: #212327; }
}
body { margin: 0 auto; max-width: 68rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
h1 { line-height: 1.2; margin: .5rem 0; }
h2 { margin-top: 3rem; border-bottom: 2px solid var(--line); overflow-wrap: anywhere; }
h3 { margin: 2rem 0 .5rem; }
p, li, dd { max-width: 48rem; }
a { color: inherit; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none; }
.summary strong { font-size: 1.1rem; }
.summary { background: var(--shade); border-left: 4px solid #0072B2; padding: .5rem 1rem; }
.note, figcaption, small { color: var(--soft); }
small { display: block; white-space: nowrap; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 500; }
thead th { background: var(--shade); }
.number { text-align: right; white-space: nowrap; }
thead .number { white-space: normal; }
.id { min-width: 11rem; max-width: 30rem; overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figure img { width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { max-width: 48rem; font-size: .93rem; }
dt { font-weight: 600; margin-top: .7rem; }
dd { margin-left: 0; }
@media print {
  body { max-width: none; font-size: 10pt; }
  nav { display: none; }
  figure, tr { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
  .scroll { overflow: visible; }
}
"""


def html_page(title: str, *body: str) -> str:
    """A whole HTML document.

    Args:
      title: of the window and the first heading.
      body: markup below the heading.
    """
    head = element(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        element("title", title),
        element("style", Markup(_STYLE)),
    )
    content = element("body", element("main", element("h1", title), *body))
    return "<!DOCTYPE html>\n" + element("html", head, content, lang="en") + "\n"
