"""Embeds whole utterances, in batches of similar length with masks."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int32
from tqdm import tqdm

from mqmha_jax import parallel
from mqmha_jax.data.batch_plan import FRAMES_PER_BATCH, FRAMES_PER_BATCH_ON_CPU
from mqmha_jax.data.eval_pipeline import EvalBatch, FbankSource, eval_batches
from mqmha_jax.errors import UserError
from mqmha_jax.features.cmn import subtract_mean
from mqmha_jax.models.cpu_convolutions import convolution_options
from mqmha_jax.types import Embeddings


@runtime_checkable
class UtteranceSource(FbankSource, Protocol):
    """N utterances with ids and un-normalised fbank: shards, or audio that was just read."""

    @property
    def utterances(self) -> Sequence[str]:
        """Their ids."""


class Embedder(NamedTuple):
    """A network as a function of padded batches, with mean normalisation over the real frames.

    Networks of equal configuration share one compiled program, so that evaluations during training compile once.

    Attributes:
      net: a ``SpeakerNet``.
      variables: its ``params`` and ``batch_stats``; with a mesh, placed on its devices.
      mesh: distributes the rows over its devices, on all hosts; None: one device.
    """

    net: nn.Module
    variables: Mapping[str, Any]
    mesh: Mesh | None = None

    def __call__(self, batch: EvalBatch) -> tuple[Int32[Array, " B"], Float[Array, "B E"]]:
        """Takes this host's rows of a batch; returns indices and embeddings of all rows, on every host."""
        rows = batch._asdict() if self.mesh is None else parallel.place_batch(batch._asdict(), self.mesh)
        program = _compiled_for(_first_device(self.mesh).platform)
        embedding = program(self.net, self.variables, rows["fbank"], rows["num_frames"])
        result = jnp.asarray(rows["index"]), embedding
        return result if self.mesh is None else parallel.gather(result, self.mesh)


def embed(embedder: Embedder, source: UtteranceSource, *, progress: bool = False, **batching: Any) -> Embeddings:
    """Embeds every utterance of a source.

    With several hosts, each reads and embeds its share of every batch, in the same number of steps and with the same
    shapes, and every host gets all embeddings.

    Args:
      embedder: the network.
      source: N utterances.
      progress: show a progress bar.
      batching: options of ``eval_batches``; ``frames_per_batch`` suits the device unless it is given.

    Returns:
      Embeddings ``[N, E]`` in the order of the source, not normalised.

    Raises:
      UserError: the source has no utterances, or ``eval_batches`` refuses one.
    """
    batching = {"frames_per_batch": _suitable_frames(embedder.mesh), **batching}
    if embedder.mesh is not None:
        batching |= {
            "batch_multiple": embedder.mesh.size,
            "num_hosts": jax.process_count(),
            "host": jax.process_index(),
        }
    if not len(source.utterances):
        raise UserError("Nothing to embed: the source has no utterances.")
    rows: list[np.ndarray] = []
    vectors: list[np.ndarray] = []
    with tqdm(total=len(source.utterances), unit="utt", desc="embed", disable=not progress, leave=False) as bar:

        def collect(index: Array, output: Array) -> None:
            numbers = np.asarray(index)
            real = numbers >= 0
            rows.append(numbers[real])
            vectors.append(np.asarray(output)[real])
            bar.update(int(real.sum()))

        pending: tuple[Array, Array] | None = None
        for batch in eval_batches(source, **batching):
            output = embedder(batch)
            if pending:  # fetched one batch late, so that the device computes while the host makes the next batch
                collect(*pending)
            pending = output
        if pending:
            collect(*pending)
    order = np.argsort(np.concatenate(rows))
    return Embeddings(tuple(source.utterances), np.concatenate(vectors)[order])


def _suitable_frames(mesh: Mesh | None) -> int:
    number = 1 if mesh is None else mesh.size
    return number * FRAMES_PER_BATCH_ON_CPU if _first_device(mesh).platform == "cpu" else FRAMES_PER_BATCH


def _first_device(mesh: Mesh | None) -> jax.Device:
    return jax.devices()[0] if mesh is None else mesh.devices.flat[0]


@functools.cache
def _compiled_for(platform: str) -> Callable[..., Array]:
    return jax.jit(_embed_batch, static_argnums=0, compiler_options=convolution_options(platform))


def _embed_batch(
    net: nn.Module, variables: Mapping[str, Any], fbank: Float[Array, "B T F"], num_frames: Int32[Array, " B"]
) -> Float[Array, "B E"]:
    mask = jnp.arange(fbank.shape[1])[None] < num_frames[:, None]
    return net.apply(variables, subtract_mean(fbank, mask), mask, train=False)
