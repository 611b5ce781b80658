"""A small foreign checkpoint, made without another toolkit."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.interop import export_model, variable_shapes
from mqmha_jax.interop.torch_writer import write_torch_file

SMALL_XVECTOR = ModelConfig(
    encoder=part("xvector", channels=8, final_channels=10), pooling=part("tstp"), embedding_dim=6, embedding_layers=2
)


def random_variables(config: ModelConfig, num_features: int) -> dict:
    """Draws the variables of a network without compiling its ``init``."""
    rng = np.random.default_rng(0)
    shapes = variable_shapes(config, num_features)
    return traverse_util.unflatten_dict(
        {path: jnp.asarray(rng.uniform(0.1, 1, leaf.shape), leaf.dtype) for path, leaf in shapes.items()}
    )


def small_state(num_features: int = 16) -> dict[str, np.ndarray]:
    """Makes the tensors of a small XVEC with WeSpeaker's names."""
    return export_model(SMALL_XVECTOR, random_variables(SMALL_XVECTOR, num_features), num_features=num_features).tensors


def write_small_checkpoint(path: Path, num_features: int = 16) -> dict[str, np.ndarray]:
    """Writes them to a PyTorch file."""
    state = small_state(num_features)
    write_torch_file(path, state)
    return state
