"""The sizes and inputs that ``head.py`` gives to every contender."""

from collections.abc import Callable
from typing import Any, NamedTuple

import click
import numpy as np

SUB_CENTRES, SCALE, MARGIN, TOP_K, PENALTY = 3, 36.0, 0.2, 5, 0.06


class HeadSize(NamedTuple):
    """The size of one measurement.

    Attributes:
      classes: C.
      batch_size: B.
      embedding_dim: E.
    """

    classes: int
    batch_size: int
    embedding_dim: int

    def arguments(self) -> list[str]:
        """Returns the command line that ``size_options`` reads."""
        return [f"--{name.replace('_', '-')}={value}" for name, value in self._asdict().items()]


def size_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of a :class:`HeadSize` to a command."""
    for name in reversed(HeadSize._fields):
        command = click.option(f"--{name.replace('_', '-')}", type=click.IntRange(1), required=True)(command)
    return command


def draw_inputs(size: HeadSize, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws embeddings ``[B,E]``, prototypes ``[rows,K,E]`` (zero from row C on) and speakers ``[B]``."""
    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((size.batch_size, size.embedding_dim), np.float32)
    speaker = rng.integers(size.classes, size=size.batch_size).astype(np.int32)
    prototypes = np.zeros((rows, SUB_CENTRES, size.embedding_dim), np.float32)
    rng.standard_normal(dtype=np.float32, out=prototypes[: size.classes])
    return embedding, prototypes, speaker
