"""The end of CAM++ by itself, and the frames that the frozen part before it gives, computed once.

Where everything below a layer is frozen and batch normalisation is kept, training needs the lower part only once per
utterance. With the last block, a sixth of the network stays per step; behind the last block, next to nothing.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from tqdm import tqdm

from mqmha_jax.data.shard_reader import FbankShards
from mqmha_jax.features.cmn import subtract_mean
from mqmha_jax.models.encoders.campplus import _DenseLayer, _NormRelu
from mqmha_jax.models.masked import Compute
from mqmha_jax.models.speaker_net import SpeakerNet
from mqmha_jax.runs.load_network import LoadedNetwork

_LENGTHS = (50, 104, 200, 360, 600)  # frames of 20 ms; batches are padded to one of these
_FRAMES_PER_BATCH = 3200


class CamPlusPlusTail(nn.Module):
    """The third block of CAM++ and what follows; its parameters have the names that they have in the whole encoder."""

    layers: int = 16
    growth: int = 32
    bottleneck: int = 128
    dilation: int = 2
    segment_frames: int = 100
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, frames: Array, mask: Array, *, train: bool) -> tuple[Array, Array]:
        """``[B,t,512]`` after the second block -> ``[B,t,512]``."""
        parts = [frames]
        for i in range(1, self.layers + 1):
            layer = _DenseLayer(
                self.growth, self.bottleneck, self.dilation, self.segment_frames, self.compute, name=f"block3_layer{i}"
            )
            parts.append(layer(parts, mask, train))
        x = _NormRelu(self.compute, name="transit3_norm")(jnp.concatenate(parts, axis=-1), mask, train)
        x = nn.Dense(x.shape[-1] // 2, use_bias=False, name="transit3")(x)
        return _NormRelu(self.compute, name="last_norm")(x, mask, train), mask


class LastNorm(nn.Module):
    """What follows the third block: normalisation and ReLU."""

    compute: Compute = Compute()

    @nn.compact
    def __call__(self, frames: Array, mask: Array, *, train: bool) -> tuple[Array, Array]:
        """``[B,t,512]`` after the third block -> ``[B,t,512]``."""
        return _NormRelu(self.compute, name="last_norm")(frames, mask, train), mask


TAILS = {"transit2": (CamPlusPlusTail, ("block3_", "transit3", "last_norm")), "transit3": (LastNorm, ("last_norm",))}
"""What remains behind a layer: the encoder, and the beginnings of the names of its parameters."""


def tail_of(net: SpeakerNet, layer: str) -> SpeakerNet:
    """The network behind a layer."""
    return net.clone(encoder=TAILS[layer][0]())


def tail_variables(variables: dict[str, Any], layer: str) -> dict[str, Any]:
    """The values of the whole network that remain behind a layer."""
    kept = TAILS[layer][1]
    return {
        name: {**tree, "encoder": {part: x for part, x in tree["encoder"].items() if part.startswith(kept)}}
        for name, tree in variables.items()
    }


class Frames(NamedTuple):
    """Frames of N utterances one after another.

    Attributes:
      ids: of the utterances.
      starts: first frame of each, and the end of the last.
      values: ``f16[frames, 512]``.
    """

    ids: tuple[str, ...]
    starts: np.ndarray
    values: np.ndarray

    def of(self, i: int) -> np.ndarray:
        return self.values[self.starts[i] : self.starts[i + 1]]

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)


def cache_frames(network: LoadedNetwork, shards: FbankShards, path: Path, layer: str, *, max_frames: int) -> Frames:
    """Computes the output of a layer for utterances, cut to ``max_frames`` input frames, once; a file keeps it."""
    kept = path.with_name(f"{path.name}_{layer}.npz")
    if kept.exists():
        with np.load(kept, allow_pickle=False) as file:
            return Frames(tuple(file["ids"].tolist()), file["starts"], file["values"])
    if layer == "transit2":
        ids = tuple(shards.utterance(i) for i in range(len(shards)))
        lengths = np.minimum(np.asarray(shards.num_frames), max_frames)
        starts = np.concatenate([[0], np.cumsum(-(-lengths // 2))])
        net, variables, width = network.net, network.variables, 80

        def read(row: int) -> np.ndarray:
            return shards.crop(row, 0, int(lengths[row]))

    else:
        lower = cache_frames(network, shards, path, "transit2", max_frames=max_frames)
        ids, lengths, starts, width = lower.ids, lower.lengths, lower.starts, 512
        net, variables = tail_of(network.net, "transit2"), tail_variables(network.variables, "transit2")

        def read(row: int) -> np.ndarray:
            return lower.of(row)

    values = np.empty((starts[-1], 512), np.float16)
    step = 2 if layer == "transit2" else 1  # input frames per frame of the layer
    for rows, size in tqdm(list(_batches(np.diff(starts)))):
        batch = np.zeros((len(rows), step * size, width), np.float32)
        for k, row in enumerate(rows):
            batch[k, : lengths[row]] = read(int(row))
        output = np.asarray(_layer_output(net, layer, variables, batch, lengths[rows]))
        for k, row in enumerate(rows):
            values[starts[row] : starts[row + 1]] = output[k, : starts[row + 1] - starts[row]]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(kept, ids=np.array(ids), starts=starts, values=values)
    return Frames(ids, starts, values)


@partial(jax.jit, static_argnums=(0, 1))
def _layer_output(net: nn.Module, layer: str, variables: Any, batch: Array, lengths: Array) -> Array:
    mask = jnp.arange(batch.shape[1])[None] < lengths[:, None]
    _, kept = net.apply(
        variables,
        subtract_mean(batch, mask) if layer == "transit2" else batch,  # filterbanks
        mask,
        train=False,
        capture_intermediates=lambda module, method: module.name == layer and method == "__call__",
    )
    return kept["intermediates"]["encoder"][layer]["__call__"][0].astype(jnp.float16)


def embed_frames(
    net: nn.Module, variables: Any, frames: Frames, rows: Sequence[int] | np.ndarray, *, max_frames: int = _LENGTHS[-1]
) -> np.ndarray:
    """Embeds utterances, cut to ``max_frames``, with a tail network: ``[len(rows), E]``."""
    lengths = np.minimum(frames.lengths[np.asarray(rows)], max_frames)
    vectors = np.empty((len(rows), net.embedding_dim), np.float32)
    for chosen, size in _batches(lengths):
        values = np.zeros((len(chosen), size, 512), np.float16)
        for k, i in enumerate(chosen):
            values[k, : lengths[i]] = frames.of(int(rows[i]))[: lengths[i]]
        vectors[chosen] = _embed(net, variables, values, lengths[chosen])
    return vectors


@partial(jax.jit, static_argnums=0)
def _embed(net: nn.Module, variables: Any, frames: Array, num_frames: Array) -> Array:
    mask = jnp.arange(frames.shape[1])[None] < num_frames[:, None]
    return net.apply(variables, frames.astype(jnp.float32), mask, train=False)


def _batches(lengths: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Rows of similar length, and the number of frames that they are padded to; one batch size per length."""
    below = 0
    for size in _LENGTHS:
        rows = np.flatnonzero((lengths > below) & (lengths <= size))
        below, count = size, max(_FRAMES_PER_BATCH // size, 1)
        for start in range(0, len(rows), count):
            batch = rows[start : start + count]
            # A short last batch repeats a row, so that no other shape is compiled.
            yield np.concatenate([batch, np.repeat(batch[:1], count - len(batch))]), size
    if (lengths > _LENGTHS[-1]).any():
        raise ValueError(f"an utterance has {lengths.max()} frames; the longest length is {_LENGTHS[-1]}")
