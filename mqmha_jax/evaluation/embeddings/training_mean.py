"""The mean embedding of the training set, which scoring subtracts, and its file in a work directory."""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from mqmha_jax.atomic import replacing
from mqmha_jax.data.joined_shards import TrainingShards
from mqmha_jax.errors import UserError
from mqmha_jax.evaluation.embeddings.embed import Embedder, embed
from mqmha_jax.evaluation.embeddings.selection import Selection
from mqmha_jax.npz_file import open_npz
from mqmha_jax.runs.manifest import identify_checkpoint

# A sample is enough for a mean embedding, and takes seconds: number of utterances, frames of each (three seconds).
_UTTERANCES, _FRAMES = 1_000, 300


def compute_training_mean(embedder: Embedder, shards: TrainingShards) -> Float32[np.ndarray, " E"]:
    """Computes the mean embedding of at most 1,000 evenly spaced training utterances.

    Args:
      embedder: the network.
      shards: the training set.
    """
    count = min(len(shards), _UTTERANCES)
    evenly_spaced = np.linspace(0, len(shards) - 1, count).round().astype(int)
    return embed(embedder, Selection(shards, evenly_spaced, max_frames=_FRAMES)).vectors.mean(axis=0)


def save_mean(workdir: Path, mean: Float32[np.ndarray, " E"], step: int) -> None:
    """Keeps the mean embedding of the network of one step.

    Raises:
      UserError: the file cannot be written.
    """
    checkpoint = identify_checkpoint(workdir, step)
    with replacing(mean_path(workdir, step)) as temporary:
        np.savez(temporary, mean=mean, step=step, checkpoint=checkpoint, sha256=_seal(mean, step, checkpoint))


def load_mean(workdir: Path, step: int, embedding_dim: int) -> Float32[np.ndarray, " E"] | None:
    """The mean embedding kept for the network of this step; None: there is none.

    Raises:
      UserError: the file is damaged, or belongs to another network.
    """
    path = mean_path(workdir, step)
    if not path.exists():
        return None
    advice = "Delete the file and run 'mqmha evaluate' on the work directory again."
    with open_npz(path, advice=advice) as kept:
        if set(kept.files) == {"mean", "step", "checkpoint"}:  # an earlier version wrote it
            return None
        mean, saved_step, checkpoint, seal = (kept[name] for name in ("mean", "step", "checkpoint", "sha256"))
    if saved_step.shape != () or saved_step.dtype.kind not in "iu" or int(saved_step) != step:
        raise UserError(f"{path} does not belong to step {step}: its step is {saved_step}. {advice}")
    if str(seal) != _seal(mean, step, str(checkpoint)):
        raise UserError(f"{path} differs from what was written: its checksum does not match. {advice}")
    if str(checkpoint) != identify_checkpoint(workdir, step):  # the run was trained again
        return None
    if mean.shape != (embedding_dim,) or mean.dtype != np.float32:
        raise UserError(
            f"{path} holds a mean of shape {mean.shape} and type {mean.dtype}; the network's embeddings are float32 of "
            f"size {embedding_dim}. {advice}"
        )
    if not np.isfinite(mean).all():
        raise UserError(f"{path} holds a mean that is not finite. {advice}")
    return mean


def _seal(mean: np.ndarray, step: int, checkpoint: str) -> str:
    return hashlib.sha256(mean.tobytes() + f"{step} {checkpoint}".encode()).hexdigest()


def mean_path(workdir: Path, step: int) -> Path:
    """Where a work directory keeps the mean embedding of a step."""
    return workdir / f"mean_embedding-{step}.npz"
