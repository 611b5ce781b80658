"""Refuses networks with values that are not finite, before they are written for other programs."""

import numpy as np
from flax import traverse_util
from jaxtyping import PyTree

from mqmha_jax.errors import UserError


def require_finite(network: PyTree, what: str) -> None:
    """Refuses a network with a NaN or an infinity.

    Args:
      network: nested dictionaries of arrays.
      what: the network, for the start of the message.

    Raises:
      UserError: names the first array that is not finite.
    """
    for name, values in traverse_util.flatten_dict(dict(network), sep="/").items():
        if not np.isfinite(np.asarray(values, np.float32)).all():
            raise UserError(f"{what} is not finite: {name} holds NaN or infinity. Use other checkpoints.")
