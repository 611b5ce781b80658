"""Counts the parameters of a network, and finds another network that has as many."""

import functools
from collections.abc import Callable

import jax

from mqmha_jax.config import Config
from mqmha_jax.config_io import with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.runs.state import initial_network

ALIKE = 0.05  # sizes whose relative difference is at most this count as equal
_LARGEST = 1 << 20
_LARGEST_FIRST = 64  # the smallest possible value is at most this, e.g. the number of a pooling's heads


def count_network_parameters(config: Config) -> int:
    """Counts the parameters of the network, without the head, which only training needs."""
    net = build_speaker_net(config.model)
    shapes = jax.eval_shape(lambda: initial_network(config, net)["params"])
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def match_size(config: Config, option: str, parameters: int) -> Config:
    """Finds a configuration whose network has ``parameters`` parameters, to within ``ALIKE``.

    Args:
      config: the experiment to grow or shrink.
      option: the integer option to choose; larger values make a larger network. Only some values may be possible, at
        equal steps: the channels that a pooling with eight heads sees are a multiple of eight.
      parameters: wanted number of parameters.

    Raises:
      UserError: the option is not valid or does not change the size, or no value of it comes near.
    """

    def with_value(value: int) -> Config:
        return with_overrides(config, [f"{option}={value}"])

    @functools.cache
    def size(value: int) -> int:
        try:
            return count_network_parameters(with_value(value))
        except UserError as error:
            raise UserError(f"{option}={value} is not possible: {error}") from None

    first, step = _find_steps(size, f"{option} cannot bring the network to {parameters:,} parameters")
    low, high = first, first + step
    while size(high) < parameters:
        low, high = high, first + 2 * (high - first)
        if high > _LARGEST or size(high) == size(low):
            raise UserError(f"{option} cannot bring the network to {parameters:,} parameters; name another option.")
    while high - low > step:  # size(low) < parameters <= size(high), or low is the first value
        middle = low + (high - low) // step // 2 * step
        low, high = (middle, high) if size(middle) < parameters else (low, middle)
    distance, best = min((abs(size(value) - parameters), value) for value in (low, high))
    if distance > ALIKE * parameters:
        raise UserError(
            f"{option} cannot bring the network to {parameters:,} parameters: {best} gives {size(best):,}, the "
            "nearest; name another option."
        )
    return with_value(best)


def _find_steps(size: Callable[[int], int], failure: str) -> tuple[int, int]:
    """Finds the smallest possible value, and the step from it to the next.

    Args:
      size: raises UserError for a value that is not possible.
      failure: start of the message if there is none.
    """
    refusals: dict[int, UserError] = {}

    def possible(value: int) -> bool:
        try:
            size(value)
        except UserError as error:
            refusals[value] = error
        return value not in refusals

    first = next((value for value in range(1, _LARGEST_FIRST + 1) if possible(value)), None)
    if first is None:
        raise UserError(
            f"{failure}: no value from 1 to {_LARGEST_FIRST} is possible. {refusals[_LARGEST_FIRST]} Correct the cell, "
            "or name another option."
        )
    return first, next((step for step in range(1, first) if possible(first + step)), first)
