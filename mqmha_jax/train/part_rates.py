"""Learning rates by part of the network: slower, faster, frozen, or frozen for a share of the run."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from mqmha_jax.config import OptimizerConfig
from mqmha_jax.errors import UserError


def part_factors(params: PyTree, config: OptimizerConfig, step: Array, num_steps: int) -> PyTree:
    """The factor of the learning rate for each parameter.

    Args:
      params: ``{"net": ..., "head": ...}``.
      config: its ``rates`` and ``frozen`` name parts by the beginning of a parameter's path; the longest name counts.
        Each part of the path may hold the wildcards of a shell, as in ``net/encoder/block[12]_*``.
      step: number of steps done.
      num_steps: steps of the run.

    Returns:
      A scalar for each parameter; 0 while it is frozen.
    """
    frozen_now = is_frozen_now(config, step, num_steps)

    def factor(path: tuple[jax.tree_util.DictKey, ...], _: object) -> Array | float:
        name = _name(path)
        rate = config.rates.get(_longest(config.rates, name), 1.0)
        if not _longest(config.frozen, name):
            return rate
        return jnp.where(frozen_now, 0.0, rate)

    return jax.tree_util.tree_map_with_path(factor, params)


def is_frozen_now(config: OptimizerConfig, step: Array, num_steps: int) -> Array | bool:
    """Whether the parts in ``frozen`` do not learn at this step."""
    return step < config.unfreeze_after * num_steps if config.unfreeze_after < 1 else True


def select_frozen(params: PyTree, config: OptimizerConfig) -> PyTree:
    """Selects the parameters that ``frozen`` names: the same tree of booleans."""
    return jax.tree_util.tree_map_with_path(lambda path, _: bool(_longest(config.frozen, _name(path))), params)


def leave_out_frozen(gradients: PyTree, factors: PyTree) -> PyTree:
    """Sets the gradients of parameters to zero whose factor is 0, so that the limit of the norm is for all others."""
    return jax.tree.map(lambda gradient, factor: jnp.where(factor == 0, 0, gradient), gradients, factors)


def stop_frozen_gradients(params: PyTree, config: OptimizerConfig) -> PyTree:
    """Marks the parameters that never learn as constants, so that nobody computes their gradients."""

    def stop(path: tuple[jax.tree_util.DictKey, ...], leaf: Array) -> Array:
        return jax.lax.stop_gradient(leaf) if _never_learns(_name(path), config) else leaf

    return jax.tree_util.tree_map_with_path(stop, params)


def check_parts(params: PyTree, config: OptimizerConfig) -> None:
    """Checks that every name begins the path of some parameter.

    Raises:
      UserError: one does not, or no parameter ever learns.
    """
    names = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for option, prefixes in (("rates", config.rates), ("frozen", config.frozen)):
        for prefix in prefixes:
            if not any(_begins(prefix, name) for name in names):
                parts = sorted({"/".join(name.split("/")[:2]) for name in names})
                raise UserError(
                    f"optimizer.{option} names {prefix!r}, but no parameter's path begins with it. Parts of this run: "
                    f"{', '.join(parts)}; 'mqmha show' lists all parameters."
                )
    if config.unfreeze_after < 1 and not config.frozen:
        raise UserError("optimizer.unfreeze_after unfreezes the parts in optimizer.frozen, which names none.")
    if all(_never_learns(name, config) for name in names):
        raise UserError(
            "optimizer.frozen and the zeros in optimizer.rates name all parameters, so nothing learns; leave out a "
            "part, such as the head."
        )


def _never_learns(name: str, config: OptimizerConfig) -> bool:
    if config.rates.get(_longest(config.rates, name), 1.0) == 0:
        return True
    return config.unfreeze_after == 1 and bool(_longest(config.frozen, name))


def _name(path: tuple[jax.tree_util.DictKey, ...]) -> str:
    return "/".join(str(key.key) for key in path)


def _longest(prefixes: Iterable[str], name: str) -> str:
    return max((prefix for prefix in prefixes if _begins(prefix, name)), key=len, default="")


def _begins(prefix: str, name: str) -> bool:
    parts, names = prefix.rstrip("/").split("/"), name.split("/")
    return len(parts) <= len(names) and all(fnmatchcase(own, part) for own, part in zip(names, parts, strict=False))
