"""What the site adds to the Markdown in docs/: READMEs of other folders, every option, every encoder and pooling."""

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import mqmha_jax
from mqmha_jax.config_io import options

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "data_prep/README.md": "corpora.md",
    "launch/README.md": "launch.md",
    "benchmarks/README.md": "benchmarks.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
_REGISTRIES = {"POOLINGS": "mqmha_jax.models.pooling", "ENCODERS": "mqmha_jax.models.encoders"}
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes links between the repository's folders lead to pages, and fills in the options."""
    source = {page: source for source, page in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    here = page.file.src_uri
    markdown = _LINK.sub(lambda link: _linked(link[1], link[2], source, here), markdown)
    for name, package in _REGISTRIES.items():
        mark = f"<!-- classes of {name} -->"
        if mark in markdown:
            markdown = markdown.replace(mark, _classes(getattr(mqmha_jax, name), package))
    return markdown.replace("<!-- options -->", _option_tables())


def _linked(text: str, target: str, source: str, here: str) -> str:
    path, hash_sign, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", target):
        return f"[{text}]({target})"
    in_repository = os.path.normpath(PurePosixPath(source).parent / path)
    page = PAGES.get(in_repository)
    if page is None and in_repository.startswith("docs/"):
        page = in_repository.removeprefix("docs/")
    if page is None:  # a file of the source, which the site does not show
        return text
    return f"[{text}]({os.path.relpath(page, PurePosixPath(here).parent)}{hash_sign}{anchor})"


def _classes(registry: Mapping[str, Callable[..., object]], package: str) -> str:
    """A reference of the package's own text and of each class once."""
    builders = [builder.func if isinstance(builder, partial) else builder for builder in registry.values()]
    names = dict.fromkeys(f"{builder.__module__}.{builder.__qualname__}" for builder in builders)
    return "\n".join([f"::: {package}\n    options:\n      members: false", *(f"::: {name}" for name in names)])


def _option_tables() -> str:
    lines: list[str] = []
    present = ""
    for option in options():
        section, _, _ = option.name.partition(".")
        if section != present:
            present = section
            lines += [f"\n## {section}\n", "| option | type | default | meaning |", "| --- | --- | --- | --- |"]
        cells = (f"`{option.name}`", option.type, f"`{option.default}`" if option.default != "" else "", option.help)
        lines.append("| " + " | ".join(escape(str(cell)).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
