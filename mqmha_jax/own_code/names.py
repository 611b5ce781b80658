"""``FILE.py:NAME`` in the nested dictionaries of a configuration."""

from collections.abc import Mapping
from typing import Any

_MARK = ".py:"


def code_names(values: Any) -> list[str]:
    """All ``FILE.py:NAME`` in the nested dictionaries of a configuration, in order."""
    if isinstance(values, Mapping):
        own = [values["name"]] if isinstance(values.get("name"), str) and _MARK in values["name"] else []
        return own + [name for value in values.values() for name in code_names(value)]
    return [name for value in values for name in code_names(value)] if isinstance(values, (list, tuple)) else []


def split_name(name: str) -> tuple[str, str]:
    """Splits ``FILE.py:NAME`` into the file and the name."""
    file, _, attribute = name.rpartition(":")
    return file, attribute


def replace_names(values: Any, places: Mapping[str, str]) -> Any:
    """Puts other places for the names in ``places``; all else stays."""
    if isinstance(values, Mapping):
        replaced = {key: replace_names(value, places) for key, value in values.items()}
        return replaced | ({"name": places[values["name"]]} if values.get("name") in places else {})
    return [replace_names(value, places) for value in values] if isinstance(values, (list, tuple)) else values
