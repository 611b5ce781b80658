"""A part chosen by name becomes a module; what is misspelt or of the wrong type is refused."""

import dataclasses
import functools
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any

import pydantic
from flax import linen as nn

from mqmha_jax.config import Part
from mqmha_jax.errors import UserError, unknown_name

_FLAX_FIELDS = ("parent", "name")


def build_part(family: str, registry: Mapping[str, Callable[..., nn.Module]], part: Part, **fixed: Any) -> nn.Module:
    """Builds the module that ``part`` names.

    Args:
      family: what the registry holds, for messages: ``"encoder"`` or ``"pooling"``.
      registry: name -> module class, or ``functools.partial`` of one. The fields of the class are the options.
      part: the name and the options that differ from the defaults, as JSON would hold them (a list stands for a tuple).
      **fixed: fields that the caller sets, hence no options.

    Returns:
      The module, without parameters.

    Raises:
      UserError: an unknown name or option (the nearest valid one is offered), or a value of the wrong type.
    """
    if part.name not in registry:
        raise unknown_name(family, part.name, registry)
    builder = registry[part.name]
    module_class: Any = builder.func if isinstance(builder, functools.partial) else builder
    hints = typing.get_type_hints(module_class, include_extras=True)
    names = {field.name for field in dataclasses.fields(module_class)} - {*_FLAX_FIELDS, *fixed}
    options = {}
    for name, value in part.options.items():
        if name not in names:
            raise unknown_name(f"option of {family} {part.name!r}:", name, names)
        options[name] = _checked(hints[name], value, f"{family} {part.name!r}, option {name!r}")
    return builder(**options, **fixed)


def _checked(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type that ``hint`` asks for; numbers are never read out of strings."""
    try:
        # Through JSON, because its strict mode takes a list for a tuple and an int for a float, but nothing else.
        return pydantic.TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except (pydantic.ValidationError, TypeError) as error:
        problem = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else str(error)
        raise UserError(f"{where} cannot be {value!r}: {problem}.") from None
