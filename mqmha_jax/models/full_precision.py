"""Sums of products that every device computes in the precision of their factors.

By default a TPU rounds float32 factors to bfloat16, and a GPU may round them to TF32. Two or three digits are enough
for the products of convolutions and linear layers, but not for cosines, or for moments whose difference is small.
"""

import jax.numpy as jnp
from jax import Array, lax


def sum_products(subscripts: str, *factors: Array) -> Array:
    """``jnp.einsum``, without rounding the factors; the same holds for the products of its gradient."""
    return jnp.einsum(subscripts, *factors, precision=lax.Precision.HIGHEST)
