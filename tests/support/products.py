"""How precisely a TPU would compute the products of matrices in a function."""

import re
from collections.abc import Callable
from typing import Any

import jax


def precisions_on_tpu(function: Callable, *arguments: Any) -> list[str]:
    """``"HIGHEST"`` or ``"DEFAULT"`` for each product, in the order of the program that is lowered for a TPU."""
    program = jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()
    factors = re.findall(r"stablehlo\.dot_general.*precision = \[(\w+), (\w+)\]", program)
    assert len(factors) == program.count("stablehlo.dot_general")
    assert all(one == other for one, other in factors)
    return [one for one, _ in factors]
