"""A small ResNet18 with MQMHA pooling, whose weights are the same numbers everywhere."""

import numpy as np
from flax import traverse_util

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.interop import variable_shapes

NUM_FEATURES = 16
CONFIG = ModelConfig(
    encoder=part("resnet18", width=4),
    pooling=part("mqmha", heads=8, queries=2, layers=2, bottleneck=64, channel_wise=True),
    embedding_dim=6,
)


def draw_network() -> dict:
    """Draws ``params`` and ``batch_stats``, float32."""
    rng = np.random.RandomState(0)  # draws the same with every version of NumPy

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name in {"scale", "var"}:
            return rng.uniform(0.5, 1.5, shape)
        fan_in = np.prod(shape[:-1]) if name not in {"bias", "mean"} else 20
        return rng.normal(size=shape) * np.sqrt(2 / fan_in)

    shapes = sorted(variable_shapes(CONFIG, NUM_FEATURES).items())
    return traverse_util.unflatten_dict({path: draw(path[-1], leaf.shape).astype(np.float32) for path, leaf in shapes})


def draw_fbank() -> np.ndarray:
    """Draws features ``[2, 61, F]``."""
    return np.random.RandomState(1).normal(size=(2, 61, NUM_FEATURES)).astype(np.float32)
