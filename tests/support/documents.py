"""Runs the programs in the documentation as a reader would: files, commands and Python, from top to bottom."""

import re
import runpy
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from data_prep.corpora import CORPORA
from mqmha_jax.cli import main
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)


class Block(NamedTuple):
    """A fenced block: its language, its file name if it has a title, its text."""

    language: str
    title: str | None
    text: str


def blocks(document: Path) -> list[Block]:
    """Lists all fenced blocks of a Markdown file, in order."""
    return [Block(language, title or None, text) for language, title, text in _BLOCK.findall(document.read_text())]


def write_files(document: Path, folder: Path) -> None:
    """Writes every block with a title to the file of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    for block in blocks(document):
        if block.title:
            (folder / block.title).write_text(block.text)


def run_document(
    document: Path, monkeypatch: pytest.MonkeyPatch, smaller: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Runs a document in the current directory: writes its files, calls its commands, executes its Python.

    Everything runs in this process, so that compiled programs stay. Blocks in other languages, such as output, are
    skipped.

    Args:
      document: a Markdown file.
      monkeypatch: undoes what the commands change.
      smaller: texts in the document -> their replacements, to save time.

    Returns:
      What the commands printed.
    """
    namespace: dict[str, object] = {"__name__": "document"}
    printed = []
    for block in blocks(document):
        for text, other in smaller.items():
            block = block._replace(text=block.text.replace(text, other))
        if block.title:
            Path(block.title).write_text(block.text)
        elif block.language == "bash":
            printed += [run_command(line, monkeypatch) for line in block.text.replace("\\\n", " ").splitlines()]
        elif block.language == "python":
            exec(compile(block.text, str(document), "exec"), namespace)
    return "".join(printed)


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs ``mqmha ...`` or ``python FILE ...``, a command of a document; comments are allowed.

    Returns:
      What ``mqmha`` printed.
    """
    program, *arguments = shlex.split(line, comments=True) or ["#"]
    if arguments[:1] == ["prep"] and arguments[1] in CORPORA:
        arguments += ["--num-workers", "0"]  # worker processes take seconds to start
    if program == "mqmha":
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
        return result.output
    if program == "python":
        monkeypatch.setattr(sys, "argv", arguments)
        runpy.run_path(arguments[0], run_name="__main__")
    else:
        assert program == "#", f"A document may call mqmha and python, not {line!r}."
    return ""
