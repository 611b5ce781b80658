"""Embeddings of whole utterances, over length-bucketed batches with masks."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int32
from tqdm import tqdm

from mqmha_jax.data.eval_pipeline import FbankSource, eval_batches
from mqmha_jax.errors import UserError
from mqmha_jax.features.cmn import subtract_mean
from mqmha_jax.types import Embeddings

EmbedFn = Callable[[np.ndarray, np.ndarray], jax.Array]


@runtime_checkable
class UtteranceSource(FbankSource, Protocol):
    """N utterances with ids and un-normalised fbank: shards, or audio that was just read."""

    @property
    def utterances(self) -> Sequence[str]:
        """Their ids."""


def make_embed_fn(net: nn.Module, variables: Mapping[str, Any]) -> EmbedFn:
    """The network as a function of a padded batch, with mean normalisation over the real frames.

    Networks of equal configuration share one compiled program, so that evaluations during training compile once.

    Args:
      net: a ``SpeakerNet``.
      variables: its ``params`` and ``batch_stats``.

    Returns:
      ``(fbank [B, T, F], num_frames [B]) -> [B, E]``, jitted, float32.
    """
    return partial(_embed_batch, net, variables)


def embed(embed_fn: EmbedFn, source: UtteranceSource, *, progress: bool = False, **batching: Any) -> Embeddings:
    """Embeds every utterance of a source.

    Args:
      embed_fn: ``(fbank f32[B, T, F], num_frames i32[B]) -> [B, E]``, e.g. of ``make_embed_fn``.
      source: N utterances.
      progress: show a progress bar.
      batching: options of ``eval_batches``.

    Returns:
      Embeddings ``[N, E]`` in the order of the source, not normalised.

    Raises:
      UserError: the source has no utterances, or ``eval_batches`` refuses one.
    """
    if not len(source.utterances):
        raise UserError("Nothing to embed: the source has no utterances.")
    rows: list[np.ndarray] = []
    vectors: list[np.ndarray] = []
    with tqdm(total=len(source.utterances), unit="utt", desc="embed", disable=not progress, leave=False) as bar:

        def collect(index: np.ndarray, output: jax.Array) -> None:
            real = index >= 0
            rows.append(index[real])
            vectors.append(np.asarray(output)[real])
            bar.update(int(real.sum()))

        pending: tuple[np.ndarray, jax.Array] | None = None
        for batch in eval_batches(source, **batching):
            output = embed_fn(batch.fbank, batch.num_frames)
            if pending:  # fetched one batch late: the device computes while the host makes the next batch
                collect(*pending)
            pending = batch.index, output
        if pending:
            collect(*pending)
    order = np.argsort(np.concatenate(rows))
    return Embeddings(tuple(source.utterances), np.concatenate(vectors)[order])


@partial(jax.jit, static_argnums=0)
def _embed_batch(
    net: nn.Module, variables: Mapping[str, Any], fbank: Float[Array, "B T F"], num_frames: Int32[Array, " B"]
) -> Float[Array, "B E"]:
    mask = jnp.arange(fbank.shape[1])[None] < num_frames[:, None]
    return net.apply(variables, subtract_mean(fbank, mask), mask, train=False)
