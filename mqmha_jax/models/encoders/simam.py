"""SimAM: attention without parameters, which weighs each position by how far it stands out of its channel."""

import jax.numpy as jnp
from flax import linen as nn

from mqmha_jax.models.maps import Maps
from mqmha_jax.models.masked import masked_mean

_REGULARIZER = 1e-4  # the paper's lambda


def apply_simam(maps: Maps) -> Maps:
    """Weighs every position of every channel (Yang et al., SimAM, ICML 2021, eq. 5).

    With ``d`` the squared deviation from the channel's mean over all real frames and all frequencies of the utterance
    and ``v`` the variance, the weight is ``sigmoid(d / (4 (v + 1e-4)) + 1/2)``.
    """
    x = maps.unfold()
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = masked_mean(wide, maps.mask).mean(axis=1, keepdims=True)[:, None]
    squares = jnp.square(wide - mean)
    count = maps.mask.sum(axis=1).astype(wide.dtype)[:, None, None, None] * maps.bands.size
    variance = masked_mean(squares, maps.mask).mean(axis=1, keepdims=True)[:, None] * count / jnp.maximum(count - 1, 1)
    weight = nn.sigmoid(squares / (4 * (variance + _REGULARIZER)) + 0.5)
    return maps._replace(values=maps.bands.wrap(x * weight.astype(x.dtype)))
