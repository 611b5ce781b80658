"""Loads, overrides, validates and compares configurations.

A configuration file is Python and defines ``CONFIG = Config(...)``; what a run resolved to is JSON in its work
directory. Both, and the ``section.option=value`` arguments of the command line, end in ``from_dict``, which checks
every name and every value.
"""

import copy
import dataclasses
import difflib
import json
import re
import reprlib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from mqmha_jax import config as schema
from mqmha_jax.config import Config, FbankSpec, PairTerm, Part
from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.field_checks import find_refusal
from mqmha_jax.json_file import read_json
from mqmha_jax.own_code.trust import require_trust
from mqmha_jax.python_file import run_python_file
from mqmha_jax.ready_configs import find_file


class Option(NamedTuple):
    """One leaf of the schema."""

    name: str
    type: str
    default: Any
    help: str


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Loads a configuration from a Python or JSON file and applies ``section.option=value`` overrides.

    Args:
      path: a ``.py`` file that defines ``CONFIG``, a ``.json`` file as a run writes it, or the name of a configuration
        that comes with the project: ``"laptop"``.
      overrides: e.g. ``["train.steps=500", "model.encoder.channels=256"]``; values are JSON, or plain text. Where
        an option takes text, a number is text, too.

    Raises:
      UserError: the file is missing or defines no configuration, a name or value is not valid, or a JSON file names
        code that this user has not trained with.
    """
    path = find_file(Path(path), "configuration")
    if path.suffix != ".json":
        return with_overrides(_run_python(path), overrides)
    values = read_json(path, dict, advice="Give the configuration as a run writes it, config.json.")
    require_trust(values, where=str(path))
    return with_overrides(values, overrides)


def with_overrides(config: Config | Mapping[str, Any], overrides: Sequence[str]) -> Config:
    """Applies ``section.option=value`` overrides to a configuration or to the dictionaries of one.

    Raises:
      UserError: a name or value is not valid.
    """
    values = to_dict(config) if isinstance(config, Config) else copy.deepcopy(dict(config))
    for override in overrides:
        _apply(values, override)
    return from_dict(values)


def to_dict(config: Config) -> dict[str, Any]:
    """Returns the configuration as nested dictionaries of plain values."""
    return pydantic.TypeAdapter(Config).dump_python(config, mode="json")


def from_dict(values: Mapping[str, Any]) -> Config:
    """Builds the configuration that nested dictionaries describe; options that they lack have their default.

    Raises:
      UserError: an unknown name (the nearest valid one is offered), or a value of the wrong type or out of range.
    """
    _check_names(Config, values, "")
    try:
        return pydantic.TypeAdapter(Config).validate_python(values)
    except pydantic.ValidationError as error:
        if refusal := find_refusal(error.errors()):  # options that do not go together
            raise refusal from None
        problems = dict.fromkeys(_describe_problem(values, item) for item in error.errors())
        raise UserError("Invalid value for " + "; ".join(problems) + ".") from None


# A list that holds one list twice, which holds another twice, and so on, would make a message of any length.
_SHORTEN = reprlib.Repr()
_SHORTEN.maxlevel = 3
_SHORTEN.maxstring = _SHORTEN.maxother = 200

# Kinds of problems whose message needs no word of Python: bounds, and the choice between names.
_PLAIN_PROBLEMS = ("greater_than", "less_than", "literal_error")


def _describe_problem(values: Mapping[str, Any], problem: Mapping[str, Any]) -> str:
    """``train.steps='many': give an integer``."""
    name: list[str] = []
    hint: Any = Config
    value: Any = values
    for key in problem["loc"]:
        if not _is_section(hint):
            break
        name.append(str(key))
        hint, value = typing.get_type_hints(hint)[str(key)], value[str(key)]
    if problem["type"].startswith(_PLAIN_PROBLEMS) or hint not in _EXAMPLES:
        return f"{_join_keys(problem['loc'])}={_SHORTEN.repr(problem['input'])}: {problem['msg'].lower()}"
    return f"{'.'.join(name)}={_SHORTEN.repr(value)}: give {_EXAMPLES[hint].format(name='.'.join(name))}"


_EXAMPLES = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple[str, ...]: """a list, such as '{name}=["net/encoder"]' with the quotes""",
    str | tuple[str, ...]: """a directory, or a list of several, such as '{name}=["a","b"]' with the quotes""",
    tuple[float, ...]: "a list of numbers, such as '{name}=[1,3]'",
    tuple[float, float]: "a list of two numbers, such as '{name}=[0,15]'",
    tuple[int, int]: "a list of two integers, such as '{name}=[3,7]'",
    tuple[PairTerm, ...]: """a list of losses, such as '{name}=[{{"name":"ge2e","weight":0.1}}]' with the quotes""",
    Mapping[str, float]: "parts with their factors, such as {name}.net/encoder=0.1",
    int | None: "an integer, or null",
}
"""What to give for an option of a type."""


_TEXTS = (str, str | tuple[str, ...])
"""Types of the options that take text."""


def differences(ours: Config, theirs: Config) -> list[str]:
    """Returns a line ``section.option: ours -> theirs`` for each option that differs."""
    a, b = _flatten(to_dict(ours)), _flatten(to_dict(theirs))
    return [
        f"{name}: {a.get(name, 'not set')} -> {b.get(name, 'not set')}"
        for name in sorted({*a, *b})
        if a.get(name) != b.get(name)
    ]


def require_same_fbank(ours: FbankSpec, theirs: FbankSpec, what: str) -> None:
    """Refuses shards whose features are not those of the configuration.

    Args:
      ours: the features of the configuration.
      theirs: the features of the shards.
      what: name of the shards, for the start of the message.

    Raises:
      UserError: names the options that differ.
    """
    changed = differences(Config(fbank=ours), Config(fbank=theirs))
    if changed:
        raise UserError(
            f"{what} have other features than the configuration (configuration -> shards): {'; '.join(changed)}. "
            "Prepare the shards again with these options, or set these options to those of the shards."
        )


def options(section: type = Config, prefix: str = "") -> Iterator[Option]:
    """Yields every option of the schema with type, default and meaning, in order."""
    hints = typing.get_type_hints(section)
    for item in dataclasses.fields(section):
        if _is_section(hints[item.name]):
            yield from options(hints[item.name], f"{prefix}{item.name}.")
            continue
        default = item.default_factory() if callable(item.default_factory) else item.default
        default = default.name if isinstance(default, Part) else default
        yield Option(prefix + item.name, _type_name(hints[item.name]), default, item.metadata.get("help", ""))


def _run_python(path: Path) -> Config:
    try:
        module = run_python_file(path, "configuration")
    except UserError as error:
        misspelt = _misspelt_argument(path, error.__cause__) if isinstance(error.__cause__, TypeError) else None
        raise misspelt or error from None
    config = getattr(module, "CONFIG", None)
    if not isinstance(config, Config):
        raise UserError(f"{path} must define CONFIG = Config(...); it defines {type(config).__name__}.")
    return config


def _misspelt_argument(path: Path, error: TypeError) -> UserError | None:
    """``TrainConfig.__init__() got an unexpected keyword argument 'step'`` as a sentence with the nearest name."""
    match = re.search(r"(?:(\w+)\.__init__\(\) )?got an unexpected keyword argument '(\w+)'", str(error))
    if match is None:
        return None
    section = getattr(schema, match[1] or "", None)
    names = _names(section) if section else [option.name.split(".")[-1] for option in options()]
    names = [name for name in names if name != match[2]]  # another section may have an option of this name
    return UserError(f"{path}: {unknown_name('option', match[2], names)}")


def _apply(values: dict[str, Any], override: str) -> None:
    """Writes ``section.option=value`` into nested dictionaries, in place."""
    name, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"{override!r} is not an override; write section.option=value, e.g. train.steps=500.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    *sections, last = name.split(".")
    section: type | None = Config
    for depth, key in enumerate(sections):
        _check_name(section, key, ".".join(sections[:depth]), override)
        section = typing.get_type_hints(section)[key] if section else None
        if section is Part:
            _apply_to_part(values.setdefault(key, {}), ".".join([*sections[depth + 1 :], last]), value)
            return
        if typing.get_origin(section) is Mapping:  # loss.options.rate=0.1
            values[key] = {**values.get(key, {}), ".".join([*sections[depth + 1 :], last]): value}
            return
        if not _is_section(section):
            raise UserError(f"{'.'.join(sections[: depth + 1])} has no options of its own (in {override!r}).")
        values = values.setdefault(key, {})
    _check_name(section, last, ".".join(sections), override)
    hint = typing.get_type_hints(section)[last]
    if hint is Part:  # model.encoder=tdnn chooses another part; the options of the old one do not apply to it
        values[last] = {"name": value, "options": {}}
    elif _is_section(hint):
        raise UserError(f"{name} is a section; name one of its options: {', '.join(_names(hint))}.")
    elif hint in _TEXTS and isinstance(value, int | float):  # a directory may be called 2024, or true
        values[last] = text
    else:
        values[last] = value


def _apply_to_part(values: dict[str, Any], name: str, value: Any) -> None:
    if name == "name":
        values.update(name=value, options={})
    else:
        values.setdefault("options", {})[name.removeprefix("options.")] = value


def _check_names(section: type, values: Any, prefix: str) -> None:
    if not isinstance(values, Mapping):
        raise UserError(f"{prefix or 'The configuration'} must hold options, not {values!r}.")
    hints = typing.get_type_hints(section)
    for key, value in values.items():
        _check_name(section, key, prefix, "")
        if _is_section(hints[key]):
            _check_names(hints[key], value, f"{prefix}.{key}" if prefix else key)


def _check_name(section: type | None, key: str, prefix: str, where: str) -> None:
    names = _names(section) if section else []
    if key not in names:
        if where and not prefix and (written := _find_bare(key, where.partition("=")[2])):
            raise UserError(f"{where!r} names an option without its section; write {' or '.join(written)}.")
        kind = f"option of {prefix}" if prefix else "section"
        error = unknown_name(kind, key, names)
        raise UserError(f"{error} (in {where!r})" if where else str(error))


def _find_bare(name: str, value: str) -> list[str]:
    """``optimizer.learning_rate=0.1`` for the name ``learning_rate``, or one that is nearly spelt so."""
    every = [option.name for option in options()]
    alone = {full.rpartition(".")[2] for full in every}
    nearest = difflib.get_close_matches(name, alone, n=1, cutoff=0.85)
    return [f"{full}={value}" for full in every if full.rpartition(".")[2] in nearest]


def _names(section: type) -> list[str]:
    return [item.name for item in dataclasses.fields(section)]


def _is_section(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint) and hint is not Part


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(str, typing.get_args(hint)))
    if isinstance(hint, types.UnionType):
        return " | ".join(map(_type_name, typing.get_args(hint)))
    if hint is types.NoneType:
        return "null"
    return "name" if hint is Part else hint.__name__


def _join_keys(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
