"""The arguments and options of a command, read from a function's signature, annotations and docstring."""

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from mqmha_jax.command_line import PATH, paragraph


class Description(NamedTuple):
    """What a docstring in Google's style says.

    Attributes:
      text: the paragraphs before the sections, ready for a command's help.
      arguments: the meaning of each argument.
    """

    text: str
    arguments: Mapping[str, str]


def describe(function: Callable[..., Any]) -> Description:
    """Reads the docstring of a function."""
    text, *sections = re.split(r"^(?=(?:Args|Returns|Yields|Raises|References):$)", _docstring(function), flags=re.M)
    arguments = {}
    for section in sections:
        if section.startswith("Args:"):
            for entry in re.split(r"^  (?=\w)", section, flags=re.M)[1:]:
                name, _, meaning = entry.partition(":")
                arguments[name] = paragraph(meaning)
    return Description("\n\n".join(map(paragraph, text.split("\n\n"))).strip(), arguments)


def click_parameters(function: Callable[..., Any]) -> list[click.Parameter]:
    """One click parameter per argument of a function.

    An argument without a default is positional; any other is an option with the same name. The annotation gives the
    type: ``Path``, ``Literal`` (a choice), ``bool`` (a flag), ``Sequence[T]`` (may be repeated), ``tuple[T, T]``,
    ``T | None``. In the docstring, a meaning that ends in "None: ..." says what happens without the option.
    """
    meanings = describe(function).arguments
    hints = typing.get_type_hints(_plain(function))
    parameters: list[click.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        settings = _type_settings(hints[name])
        if parameter.default is parameter.empty:
            parameters.append(click.Argument([name], metavar=metavar(name), type=settings.get("type")))
            continue
        meaning, _, without = meanings.get(name, "").partition("; None: ")
        if without or parameter.default not in (None, ()):
            settings["show_default"] = without.rstrip(".") or True
        flag = "--" + name.replace("_", "-")
        settings.setdefault("default", parameter.default)
        parameters.append(click.Option([flag, name], help=sentence(meaning), **settings))
    return parameters


def argument_help(function: Callable[..., Any]) -> dict[str, str]:
    """The meaning of each positional argument, by its name in the help."""
    meanings = describe(function).arguments
    names = [name for name, item in inspect.signature(function).parameters.items() if item.default is item.empty]
    return {metavar(name): sentence(meanings.get(name, "")) for name in names}


def metavar(name: str) -> str:
    """The name of a positional argument in the help."""
    return name.removesuffix("_path").upper()


def sentence(text: str) -> str:
    """The text with a capital at its start and one full stop at its end."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def _type_settings(hint: Any) -> dict[str, Any]:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        members = [member for member in typing.get_args(hint) if member is not types.NoneType]
        return {"type": PATH} if Path in members else _type_settings(members[0])
    if typing.get_origin(hint) is typing.Literal:
        return {"type": click.Choice(typing.get_args(hint))}
    if typing.get_origin(hint) is Sequence:
        return {**_type_settings(typing.get_args(hint)[0]), "multiple": True}
    if typing.get_origin(hint) is tuple:
        members = list(typing.get_args(hint))
        return {**_type_settings(members[0]), "nargs": len(members)}
    return {"is_flag": True} if hint is bool else {"type": PATH if hint is Path else hint}


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, without what ``functools.partial`` and ``functools.wraps`` put around it."""
    while (inside := getattr(function, "func", None) or getattr(function, "__wrapped__", None)) is not None:
        function = inside
    return function


def _docstring(function: Callable[..., Any]) -> str:
    return inspect.getdoc(function) or ""
