"""The mean embedding of every training speaker, to initialise prototypes."""

import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Float32, PyTree

from mqmha_jax.data.joined_shards import TrainingShards
from mqmha_jax.evaluation.embeddings.embed import Embedder, embed
from mqmha_jax.evaluation.embeddings.selection import Selection
from mqmha_jax.evaluation.embeddings.speakers import sample_per_speaker, sum_per_speaker

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
    rows = sample_per_speaker(speaker, _UTTERANCES)
    selection = Selection(shards, rows, max_frames=_FRAMES)
    vectors = embed(Embedder(net, variables, mesh), selection, progress=progress).vectors
    return _scale_to_unit(sum_per_speaker(_scale_to_unit(vectors), speaker[rows]))


def _scale_to_unit(vectors: Float32[np.ndarray, "n E"]) -> Float32[np.ndarray, "n E"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
