"""Checks values of dataclass fields against their types, where no file is read: ``FbankSpec(num_mel_bins=-5)``."""

import dataclasses
import functools
import numbers
import sys
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from annotated_types import Ge, Gt, Le, Lt

from mqmha_jax.errors import UserError

LARGEST_INTEGER = 2**31 - 1  # of JAX's integers: steps, seeds and sizes become int32 on the devices
_NUMBERS: dict[type, type] = {int: numbers.Integral, float: numbers.Real}
_WORDS = {int: "an integer", float: "a number", str: "text", bool: "True or False"}


def check_fields(section: Any) -> None:
    """Refuses numbers, words, flags and sections that the type of their field does not allow; other types pass.

    Args:
      section: an instance of a dataclass.

    Raises:
      UserError: names the class, the field and what is valid.
    """
    kind: Any = type(section)
    for name, hint in _hints(kind).items():
        value = getattr(section, name)
        if valid := _valid_values(value, hint):
            raise UserError(f"{kind.__name__}: {name} must be {valid}, but it is {value!r}.")


def check_value(name: str, value: Any, hint: Any) -> None:
    """Refuses an argument that its type does not allow.

    Args:
      name: what the message calls it.
      value: the argument.
      hint: ``int``, ``float``, ``str`` or ``bool``, or one of these annotated with bounds.

    Raises:
      UserError: names the argument and what is valid.
    """
    if valid := _valid_values(value, hint):
        raise UserError(f"{name} is {value!r}; valid: {valid}.")


def find_refusal(problems: Iterable[Mapping[str, Any]]) -> UserError | None:
    """The sentence of a dataclass that refused its values, among the problems that pydantic lists; None: no such."""
    refusals = (problem.get("ctx", {}).get("error") for problem in problems)
    return next((refusal for refusal in refusals if isinstance(refusal, UserError)), None)


@functools.cache
def _hints(section: type) -> dict[str, Any]:
    return typing.get_type_hints(section, include_extras=True)


def _valid_values(value: Any, hint: Any) -> str | None:
    """What is valid in place of a value; None if the value is."""
    hint, *bounds = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
    if typing.get_origin(hint) is typing.Literal:
        names = typing.get_args(hint)
        return None if value in names else " or ".join(map(repr, names))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return None if isinstance(value, hint) else f"of the class {hint.__name__}"
    if hint not in _WORDS:
        return None
    right = isinstance(value, _NUMBERS.get(hint, hint)) and (hint is bool) == isinstance(value, bool)
    if right and (hint is not float or abs(value) <= sys.float_info.max) and all(_holds(value, b) for b in bounds):
        return None  # the comparison is False for NaN
    # Mention the largest size only to those who exceed it.
    too_large = isinstance(value, int) and value > LARGEST_INTEGER
    limits = [_describe(bound) for bound in bounds if too_large or bound != Le(LARGEST_INTEGER)]
    return f"{_WORDS[hint]} {' and '.join(limits)}".rstrip()


def _holds(value: Any, bound: Any) -> bool:
    match bound:
        case Ge():
            return value >= bound.ge
        case Gt():
            return value > bound.gt
        case Le():
            return value <= bound.le
        case Lt():
            return value < bound.lt
    return True


def _describe(bound: Any) -> str:
    match bound:
        case Ge():
            return f"of at least {bound.ge}"
        case Gt():
            return f"above {bound.gt}"
        case Le():
            return f"of at most {bound.le}"
        case Lt():
            return f"below {bound.lt}"
    return ""
