"""Foreign tensors by name, and how they hold each of ours: names and order of axes, in both directions."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mqmha_jax.errors import UserError

Names = str | Sequence["Names"]
"""One foreign name, or lists of names; their tensors are stacked along new leading axes."""


class NoSourceError(Exception):
    """A family has no tensor for a variable of ours."""

    def __init__(self, path: Sequence[str]) -> None:
        super().__init__(f"it has nothing like {'/'.join(path)}")


class Tensors:
    """The tensors of a foreign network. An import looks at them, and takes them out until none is left."""

    def __init__(self, tensors: Mapping[str, np.ndarray], title: str) -> None:
        """Holds tensors.

        Args:
          tensors: foreign names -> arrays.
          title: of the family, for messages.
        """
        self._tensors = dict(tensors)
        self.title = title

    @property
    def names(self) -> list[str]:
        """The names of the tensors that are left."""
        return list(self._tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def look(self, name: str) -> np.ndarray:
        """Returns a tensor, and keeps it.

        Raises:
          UserError: no tensor has this name.
        """
        if name not in self._tensors:
            raise UserError(f"The checkpoint is not a known {self.title}, or it is incomplete: it lacks {name!r}.")
        return self._tensors[name]

    def shape(self, name: str, *, rank: int) -> tuple[int, ...]:
        """Returns the shape of a tensor.

        Raises:
          UserError: no tensor has this name, it has another number of axes, or it holds no values.
        """
        shape = self.look(name).shape
        if len(shape) != rank:
            raise UserError(f"The tensor {name!r} has the shape {shape}; in a {self.title} it has {rank} axes.")
        if 0 in shape:
            raise UserError(
                f"The tensor {name!r} has the shape {shape} and holds no values, so this is no working "
                f"{self.title}. Use another checkpoint."
            )
        return shape

    def take(self, name: str) -> np.ndarray:
        """Returns a tensor, and removes it.

        Raises:
          UserError: no tensor has this name.
        """
        value = self.look(name)
        del self._tensors[name]
        return value

    def count(self, pattern: str) -> int:
        """Counts the different numbers that the group of ``pattern`` matches, at the start of names."""
        return len({match[1] for name in self._tensors if (match := re.match(pattern, name))})


def require_features(tensors: Tensors, found: int, num_features: int) -> None:
    """Checks the number of features per frame against what the first layer takes.

    Args:
      tensors: of the network.
      found: inputs of the first layer.
      num_features: the configured number.

    Raises:
      UserError: they differ.
    """
    if found != num_features:
        raise UserError(
            f"The first layer of this {tensors.title} takes {found} features per frame, not {num_features}; import it "
            f"with --num-mel-bins {found}."
        )


class Source(NamedTuple):
    """Where the values of one of our variables lie in a foreign checkpoint.

    Attributes:
      names: the tensor, or lists of tensors to stack.
      axes: our order of the axes of a single tensor, as ``np.transpose`` takes it.
      unit_axes: how many trailing axes of length one the foreign tensor has that ours does not (1x1 convolutions).
      rotate: ``(axis, n)``: along this axis of ours, the last n entries of theirs come first.
    """

    names: Names
    axes: tuple[int, ...] = (0,)
    unit_axes: int = 0
    rotate: tuple[int, int] = (0, 0)

    def read(self, tensors: Tensors) -> np.ndarray:
        """Takes the tensors and returns our variable.

        Raises:
          UserError: a tensor is missing or has another number of axes.
        """
        axis, shift = self.rotate
        return np.roll(self._stack(self.names, tensors), shift, axis)

    def write(self, value: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the foreign tensors that hold our variable; :meth:`read` reads them back.

        Raises:
          UserError: the variable stacks more or fewer parts (such as heads) than there are tensors.
        """
        axis, shift = self.rotate
        written: dict[str, np.ndarray] = {}
        self._unstack(self.names, np.roll(value, -shift, axis), written)
        return written

    def _stack(self, names: Names, tensors: Tensors) -> np.ndarray:
        if not isinstance(names, str):
            parts = [self._stack(name, tensors) for name in names]
            if len({part.shape for part in parts}) > 1:
                raise UserError(f"The tensors {names[0]!r} to {names[-1]!r} differ in shape; they must be alike.")
            return np.stack(parts)
        shape = tensors.shape(names, rank=len(self.axes) + self.unit_axes)
        if shape[len(self.axes) :] != (1,) * self.unit_axes:
            raise UserError(
                f"The tensor {names!r} has the shape {shape}, but its last {self.unit_axes} axes must be 1."
            )
        return tensors.take(names).reshape(shape[: len(self.axes)]).transpose(self.axes)

    def _unstack(self, names: Names, value: np.ndarray, written: dict[str, np.ndarray]) -> None:
        if not isinstance(names, str):
            if len(names) != len(value):
                # Only the scorers of an attention pooling are stacked, over queries and heads.
                raise UserError(f"Its attention has {len(names)} queries or heads where this network has {len(value)}.")
            for name, part in zip(names, value, strict=True):
                self._unstack(name, part, written)
            return
        tensor = value.transpose(np.argsort(self.axes))
        written[names] = np.ascontiguousarray(tensor.reshape(tensor.shape + (1,) * self.unit_axes))


_NORM_LEAVES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def norm(name: str, leaf: str) -> Source:
    """A leaf of a batch normalisation."""
    return Source(f"{name}.{_NORM_LEAVES[leaf]}")


def linear(name: str, leaf: str) -> Source:
    """A leaf of a linear layer: (out, in) -> (in, out)."""
    return Source(f"{name}.bias") if leaf == "bias" else Source(f"{name}.weight", (1, 0))


def conv1d(name: str, leaf: str) -> Source:
    """A leaf of a convolution over time: (out, in, time) -> (time, in, out)."""
    return Source(f"{name}.bias") if leaf == "bias" else Source(f"{name}.weight", (2, 1, 0))


def pointwise(name: str, leaf: str) -> Source:
    """A leaf of a 1-D convolution of kernel size one that is a dense layer here: (out, in, 1) -> (in, out)."""
    return Source(f"{name}.bias") if leaf == "bias" else Source(f"{name}.weight", (1, 0), unit_axes=1)


def conv2d(name: str, leaf: str) -> Source:
    """A leaf of a convolution over frequency and time: (out, in, frequency, time) -> (time, frequency, in, out)."""
    return Source(f"{name}.bias") if leaf == "bias" else Source(f"{name}.weight", (3, 2, 1, 0))
