"""The mean embedding of the training set, which scoring subtracts, and where a run keeps it."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from mqmha_jax.atomic import replacing
from mqmha_jax.data.shard_reader import FbankShards
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.embed import Embedder, embed
from mqmha_jax.evaluation.embeddings.selection import Selection

MEAN_FILE = "mean_embedding.npz"

# A sample is enough for a mean of unit vectors, and costs seconds: so many utterances of three seconds each.
_UTTERANCES, _FRAMES = 1_000, 300


def training_mean(embedder: Embedder, shards: FbankShards) -> Float32[np.ndarray, " E"]:
    """The mean embedding over at most 1,000 evenly spaced training utterances.

    Args:
      embedder: of the network.
      shards: of the training.
    """
    count = min(len(shards), _UTTERANCES)
    evenly_spaced = np.linspace(0, len(shards) - 1, count).round().astype(int)
    return embed(embedder, Selection(shards, evenly_spaced, max_frames=_FRAMES)).vectors.mean(axis=0)


def save_mean(workdir: Path, mean: Float32[np.ndarray, " E"], step: int) -> None:
    """Keep the mean of the network that was trained for ``step`` steps."""
    with replacing(workdir / MEAN_FILE) as temporary:
        np.savez(temporary, mean=mean, step=step)


def load_mean(workdir: Path, step: int) -> Float32[np.ndarray, " E"] | None:
    """The mean kept for this step's network, or None.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / MEAN_FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            return kept["mean"] if int(kept["step"]) == step else None
    except Exception as error:  # zipfile, zlib, numpy and os each have their own
        raise UserError(f"{path} can not be read ({error}); remove it and evaluate again.") from error
