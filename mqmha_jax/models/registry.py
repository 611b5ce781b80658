"""Builds a part chosen by name; refuses misspelt names and values of the wrong type."""

import dataclasses
import functools
import inspect
import json
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pydantic
from flax import linen as nn

from mqmha_jax.config import Part
from mqmha_jax.errors import UserError, unknown_name
from mqmha_jax.python_file import run_python_file

_FLAX_FIELDS = ("parent", "name")
_VALID_TYPES = "int, float, str, bool, tuple"

Built = TypeVar("Built")


def build_part(family: str, registry: Mapping[str, Callable[..., Built]], part: Part, **fixed: Any) -> Built:
    """Builds the part that ``part`` names.

    Args:
      family: contents of the registry, for messages: ``"encoder"``, ``"pooling"``, ``"loss"``.
      registry: name -> module class, function, or ``functools.partial`` of one. Its arguments are the options.
      part: the name and the options that differ from the defaults, as JSON values (a list stands for a tuple).
        A name ``FILE.py:NAME`` is a class or function of the user's own file.
      **fixed: arguments that the caller sets, so they are not options. A part without such an argument does not get it.

    Returns:
      The module, or the value that the function returns.

    Raises:
      UserError: an unknown name or option (the nearest valid one is offered), a value of the wrong type, or an option
        whose annotation says no type that a configuration can give.
    """
    builder = _find_builder(family, registry, part.name)
    parameters = inspect.signature(builder).parameters
    options = _check_options(family, builder, part, fixed)
    return builder(**options, **{name: value for name, value in fixed.items() if name in parameters})


class PartOption(NamedTuple):
    """An option of a part.

    Attributes:
      value: what the configuration gives, else the default.
      default: of the part with this name; ``inspect.Parameter.empty``: there is none, so the option must be given.
    """

    value: Any
    default: Any


def list_options(
    family: str, registry: Mapping[str, Callable[..., Any]], part: Part, *, fixed: Collection[str] = ()
) -> dict[str, PartOption]:
    """Lists every option of the part that ``part`` names, in the order of its class or function.

    Args:
      family, registry, part: as for ``build_part``.
      fixed: names of the arguments that the caller of ``build_part`` sets.

    Raises:
      UserError: as ``build_part``.
    """
    builder = _find_builder(family, registry, part.name)
    given = _check_options(family, builder, part, fixed)
    defaults = {name: item.default for name, item in inspect.signature(builder).parameters.items()}
    names = [name for name in defaults if name in _option_names(builder, fixed)]
    options = {name: PartOption(given.get(name, defaults[name]), defaults[name]) for name in names}
    return {name: option for name, option in options.items() if option.value is not inspect.Parameter.empty}


def options_of(module: nn.Module) -> dict[str, Any]:
    """The value of every option of a part that was built, by name."""
    fields = [item.name for item in dataclasses.fields(module) if item.name not in ("compute", *_FLAX_FIELDS)]
    return {name: getattr(module, name) for name in fields}


def _find_builder(family: str, registry: Mapping[str, Callable[..., Any]], name: str) -> Callable[..., Any]:
    if ".py:" in name:
        return _load_from_file(name, family)
    if name in registry:
        return registry[name]
    raise unknown_name(family, name, registry)


def _option_names(builder: Callable[..., Any], fixed: Collection[str]) -> set[str]:
    return inspect.signature(builder).parameters.keys() - {*_FLAX_FIELDS, *fixed}


def _check_options(family: str, builder: Callable[..., Any], part: Part, fixed: Collection[str]) -> dict[str, Any]:
    """The options that ``part`` gives, as values of the types that ``builder`` asks for."""
    function: Any = builder.func if isinstance(builder, functools.partial) else builder
    hints = _type_hints(function, f"{family} {part.name!r}") if part.options else {}
    names = _option_names(builder, fixed)
    options = {}
    for name, value in part.options.items():
        if name not in names:
            raise unknown_name(f"option of {family} {part.name!r}:", name, names)
        options[name] = _check_value(hints.get(name, Any), value, f"{family} {part.name!r}, option {name!r}")
    return options


def _load_from_file(name: str, family: str) -> Callable[..., Any]:
    """``FILE.py:NAME`` -> what NAME is in FILE."""
    file, _, attribute = name.rpartition(":")
    module = run_python_file(Path(file), family)
    if not callable(found := getattr(module, attribute, None)):
        raise UserError(f"{family} {name!r}: {file} defines no function or class {attribute!r}.")
    return found


def _type_hints(function: Any, where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # annotations are expressions of the user
        raise UserError(
            f"{where} has an annotation that cannot be read ({type(error).__name__}: {error}). Import what it names "
            f"outside 'if TYPE_CHECKING:', or use {_VALID_TYPES}."
        ) from error


def _check_value(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type that ``hint`` asks for; numbers are never read out of strings."""
    try:
        adapter = pydantic.TypeAdapter(hint)
    except (pydantic.errors.PydanticUserError, NameError) as error:
        raise UserError(f"{where} has the annotation {hint}, which options cannot have; use {_VALID_TYPES}.") from error
    try:
        # Through JSON, because its strict mode takes a list for a tuple and an int for a float, but nothing else.
        return _make_hashable(adapter.validate_json(json.dumps(value), strict=True))
    except (pydantic.ValidationError, TypeError) as error:
        problem = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else str(error)
        raise UserError(f"{where} cannot be {value!r}: {problem}.") from None


def _make_hashable(value: Any) -> Any:
    """Lists as tuples, because a network must be hashable to be compiled."""
    return tuple(map(_make_hashable, value)) if isinstance(value, list) else value
