"""The network: encoder, pooling, embedding layer."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float

from mqmha_jax.config import ModelConfig
from mqmha_jax.errors import UserError
from mqmha_jax.models.encoders import ENCODERS
from mqmha_jax.models.encoders.repvgg import RepVgg, fold_repvgg
from mqmha_jax.models.masked import Compute, MaskedBatchNorm, check_mask
from mqmha_jax.models.pooling import POOLINGS
from mqmha_jax.models.registry import build_part
from mqmha_jax.own_code.returns import describe, fits, name_function, require_floats


class SpeakerNet(nn.Module):
    """Turns filterbank frames into one embedding per utterance.

    Attributes:
      encoder: ``(fbank, mask, *, train) -> (frames, mask)``.
      pooling: ``(frames, mask, *, train) -> [B, S]``.
      embedding_dim: E.
      embedding_layers: 1, linear; 2, linear, ReLU, batch normalisation without scale and bias, linear.
      embedding_bias: the last linear layer has a bias.
      normalize_pooled: batch normalisation between pooling and the embedding layers.
      normalize_embedding: batch normalisation of the embedding.
      affine_embedding_norm: this normalisation has a scale and a bias.
      batch_norm_groups: groups of a batch with statistics of their own, for these normalisations.
    """

    encoder: nn.Module
    pooling: nn.Module
    embedding_dim: int
    embedding_layers: int = 1
    embedding_bias: bool = True
    normalize_pooled: bool = False
    normalize_embedding: bool = False
    affine_embedding_norm: bool = False
    batch_norm_groups: int = 1

    @nn.compact
    def __call__(
        self, fbank: Float[Array, "B T F"], mask: Bool[Array, "B T"], *, train: bool
    ) -> Float[Array, "B {self.embedding_dim}"]:
        """Embeds utterances.

        Args:
          fbank: mean-normalised log-mel features.
          mask: which frames are real.
          train: whether batch normalisation uses the statistics of this batch and collects them in ``batch_stats``.

        Returns:
          Embeddings in float32, not of unit length.
        """
        check_mask(fbank, mask)
        # An utterance without frames, which only pads a batch, must not enter the statistics of the normalisations.
        has_frames = mask.any(axis=1)
        frames, mask = _check_encoded(self.encoder, self.encoder(fbank, mask, train=train), fbank.shape[0])
        # Statistics of frames in half precision would lose what distinguishes speakers.
        frames = frames.astype(jnp.promote_types(frames.dtype, jnp.float32))
        pooled = self.pooling(frames, mask, train=train)
        what = f"The pooling {name_function(self.pooling)}"
        require_floats(pooled, (fbank.shape[0], None), what, "a vector for each utterance, [B,S]")
        if self.normalize_pooled:
            norm = MaskedBatchNorm(groups=self.batch_norm_groups, name="pooled_norm")
            pooled = norm(pooled, has_frames, train=train)
        if self.embedding_layers == 2:
            pooled = nn.relu(nn.Dense(self.embedding_dim, name="hidden")(pooled))
            norm = MaskedBatchNorm(affine=False, groups=self.batch_norm_groups, name="hidden_norm")
            pooled = norm(pooled, has_frames, train=train)
        embedding = nn.Dense(self.embedding_dim, self.embedding_bias, name="embedding")(pooled)
        if self.normalize_embedding:
            norm = MaskedBatchNorm(
                affine=self.affine_embedding_norm, groups=self.batch_norm_groups, name="embedding_norm"
            )
            embedding = norm(embedding, has_frames, train=train)
        return embedding


def _check_encoded(encoder: nn.Module, encoded: Any, num_utterances: Any) -> tuple[Array, Array]:
    """Refuses frames and a mask that do not belong together; some would broadcast and pool other frames, silently."""
    what = f"The encoder {name_function(encoder)}"
    if not isinstance(encoded, tuple) or len(encoded) != 2:
        raise UserError(f"{what} returned {describe(encoded)}. It must return frames [B,t,D] and a mask [B,t].")
    frames, mask = encoded
    require_floats(frames, (num_utterances, None, None), f"{what}, frames:", "frames [B,t,D] of each utterance")
    if not fits(getattr(mask, "shape", ()), frames.shape[:2]) or mask.dtype != bool:
        raise UserError(
            f"{what} returned frames of shape {frames.shape} and as mask {describe(mask)}. The mask must be bool of "
            f"shape {frames.shape[:2]}, True for each real frame."
        )
    return frames, mask


def build_speaker_net(config: ModelConfig, *, lanes: int = 1, dtype: str | None = None) -> SpeakerNet:
    """Builds the network of a configuration.

    Args:
      config: names and options of encoder and pooling, and the embedding layer.
      lanes: channels in a vector of the hardware, ``parallel.vector_lanes``; they change the speed, not the result.
      dtype: type of the encoder's activations; None: ``config.compute_dtype``.

    Returns:
      The module; its parameters are ``encoder/...``, ``pooling/...`` and ``embedding/{kernel,bias}``.

    Raises:
      UserError: an unknown encoder, pooling or option, or an option of the wrong type.
    """
    compute = Compute(
        dtype=jnp.dtype(dtype or config.compute_dtype),
        batch_norm_groups=config.batch_norm_groups,
        rematerialize=config.rematerialize,
        lanes=lanes,
    )
    return SpeakerNet(
        encoder=build_part("encoder", ENCODERS, config.encoder, compute=compute),
        pooling=build_part("pooling", POOLINGS, config.pooling, batch_norm_groups=config.batch_norm_groups),
        embedding_dim=config.embedding_dim,
        embedding_layers=config.embedding_layers,
        embedding_bias=config.embedding_bias,
        normalize_pooled=config.normalize_pooled,
        normalize_embedding=config.normalize_embedding,
        affine_embedding_norm=config.affine_embedding_norm,
        batch_norm_groups=config.batch_norm_groups,
    )


def change_compute(net: SpeakerNet, **options: Any) -> SpeakerNet:
    """Returns the same network, whose encoder computes in another way.

    Args:
      net: the network; its encoder has the field ``compute``.
      **options: fields of ``Compute``.
    """
    return net.clone(encoder=net.encoder.clone(compute=dataclasses.replace(net.encoder.compute, **options)))


def fold_for_inference(net: SpeakerNet, variables: Mapping[str, Any]) -> tuple[SpeakerNet, Mapping[str, Any]]:
    """Returns the same network in the form that embeds fastest; only RepVGG has two forms.

    Args:
      net: the network.
      variables: its ``params`` and ``batch_stats``.

    Returns:
      A network and variables with the same embeddings, not meant for training.
    """
    if not isinstance(net.encoder, RepVgg) or net.encoder.folded:
        return net, variables
    folded = fold_repvgg({name: tree["encoder"] for name, tree in variables.items()})
    params = {**variables["params"], "encoder": folded["params"]}
    statistics = {name: tree for name, tree in variables["batch_stats"].items() if name != "encoder"}
    return net.clone(encoder=net.encoder.clone(folded=True)), {"params": params, "batch_stats": statistics}
