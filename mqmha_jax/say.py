"""How library functions tell their caller something in the middle of the work; the caller prints, logs or drops it."""

from collections.abc import Callable

Say = Callable[[str], object]
"""Receives a sentence for the user."""


def say_nothing(sentence: str) -> None:
    """Drops a sentence."""
