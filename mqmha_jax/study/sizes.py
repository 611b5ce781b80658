"""Counts the parameters of a network, and finds another network that has as many."""

import functools

import jax

from mqmha_jax.config import Config
from mqmha_jax.config_io import with_overrides
from mqmha_jax.errors import UserError
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.runs.state import initial_network

ALIKE = 0.05  # sizes whose relative difference is at most this count as equal
_LARGEST = 1 << 20


def count_network_parameters(config: Config) -> int:
    """Counts the parameters of the network, without the head, which only training needs."""
    net = build_speaker_net(config.model)
    shapes = jax.eval_shape(lambda: initial_network(config, net)["params"])
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def match_size(config: Config, option: str, parameters: int) -> Config:
    """Finds a configuration whose network has ``parameters`` parameters, to within ``ALIKE``.

    Args:
      config: the experiment to grow or shrink.
      option: the integer option to choose; larger values make a larger network.
      parameters: wanted number of parameters.

    Raises:
      UserError: the option is not valid or does not change the size, or no value of it comes near.
    """

    def at(value: int) -> Config:
        return with_overrides(config, [f"{option}={value}"])

    @functools.cache
    def size(value: int) -> int:
        return count_network_parameters(at(value))

    low, high = 1, 2
    while size(high) < parameters:
        low, high = high, 2 * high
        if high > _LARGEST or size(high) == size(low):
            raise UserError(f"{option} cannot bring the network to {parameters:,} parameters; name another option.")
    while high - low > 1:  # size(low) < parameters <= size(high), or low is 1
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < parameters else (low, middle)
    distance, best = min((abs(size(value) - parameters), value) for value in (low, high))
    if distance > ALIKE * parameters:
        raise UserError(
            f"{option} cannot bring the network to {parameters:,} parameters: {best} gives {size(best):,}, the "
            "nearest; name another option."
        )
    return at(best)
