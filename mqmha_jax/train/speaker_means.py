"""The mean embedding of every training speaker, to initialise prototypes."""

import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Float32, PyTree

from mqmha_jax.data.joined_shards import TrainingShards
from mqmha_jax.evaluation.embeddings.embed import Embedder, embed
from mqmha_jax.evaluation.embeddings.selection import Selection

_UTTERANCES = 10  # of each speaker, evenly spaced; more change the mean little and take longer
_FRAMES = 1000  # of each utterance: ten seconds


def speaker_means(
    net: nn.Module, variables: PyTree, shards: TrainingShards, mesh: Mesh | None, *, progress: bool = False
) -> Float32[np.ndarray, "C E"]:
    """Embeds some utterances of each speaker and averages their directions.

    Args:
      net: a ``SpeakerNet``.
      variables: its ``params`` and ``batch_stats``, on the mesh.
      shards: training shards of C speakers (classes).
      mesh: mesh whose devices embed; None: one device.
      progress: show a progress bar.

    Returns:
      A unit vector for each speaker.
    """
    speaker = np.asarray(shards.speaker)
    chosen = [_spread(np.flatnonzero(speaker == number)) for number in range(len(shards.speakers))]
    indices = np.concatenate(chosen)
    selection = Selection(shards, indices, max_frames=_FRAMES)
    vectors = embed(Embedder(net, variables, mesh), selection, progress=progress).vectors
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    sums = np.zeros((len(shards.speakers), vectors.shape[1]), np.float32)
    np.add.at(sums, speaker[indices], units)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _spread(indices: np.ndarray) -> np.ndarray:
    if len(indices) <= _UTTERANCES:
        return indices
    return indices[np.linspace(0, len(indices) - 1, _UTTERANCES).round().astype(int)]
