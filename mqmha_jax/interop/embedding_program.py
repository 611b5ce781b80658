"""A trained network as one function from audio to embedding, for programs that run without this package."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Gt, Le
from flax import linen as nn
from jax import Array
from jax import export as jax_export
from jaxtyping import Bool, Float

from mqmha_jax.config import Config, Positive
from mqmha_jax.errors import UserError
from mqmha_jax.features.batch_fbank import log_mel_of_batch
from mqmha_jax.features.cmn import subtract_mean
from mqmha_jax.features.fbank import num_frames, window_and_hop
from mqmha_jax.field_checks import check_value
from mqmha_jax.models import build_speaker_net, fold_for_inference

Source = Literal["waveform", "fbank"]
Precision = Literal["float32", "float16"]
AnySize = Literal["any"]
_Seconds = Annotated[float, Gt(0), Le(86_400)]  # a day, whose samples an int32 still counts at 24 kHz

# Frames for which the ratio of an encoder's input and output lengths is measured; divisible by all common strides.
_PROBE_FRAMES = 5040


class EmbeddingProgram(NamedTuple):
    """A function of arrays alone, and what goes into it.

    Attributes:
      function: ``(waveform [B,n], num_samples [B]) -> embedding [B,E]``, or ``(fbank [B,T,F], num_frames [B]) ->
        embedding``. The values of a row after its length have no effect. Without lengths all of a row counts.
        Embeddings are float32, as the network gives them; a row without a frame, or with a value that is not finite,
        has NaN.
      names: of the arguments.
      arguments: their types (lengths are int32) and shapes, which may be symbolic.
    """

    function: Callable[..., Array]
    names: tuple[str, ...]
    arguments: tuple[jax.ShapeDtypeStruct, ...]


def embedding_program(
    config: Config,
    variables: Mapping[str, Any],
    *,
    source: Source = "waveform",
    dtype: Precision = "float32",
    batch: int | AnySize = "any",
    seconds: float | AnySize = "any",
) -> EmbeddingProgram:
    """Joins filterbank, mean normalisation and network.

    Args:
      config: the experiment that trained the network.
      variables: ``params`` and ``batch_stats``.
      source: input of the function: waveforms in [-1, 1], or their filterbank frames, normalised or not.
      dtype: type of the weights and of the encoder's activations. The rest is float32.
      batch: number of rows, B.
      seconds: duration of the rows. One row of any duration needs no lengths, so the program takes none.

    Raises:
      UserError: a number of rows or seconds below one row or one window.
    """
    shape = _shape(config, source, batch, seconds)
    embed = _embedding_function(config, variables, source, dtype)
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32)]
    names: list[str] = [source]
    if (batch, seconds) != (1, "any"):
        arguments.append(jax.ShapeDtypeStruct(shape[:1], jnp.int32))
        names.append("num_samples" if source == "waveform" else "num_frames")
    return EmbeddingProgram(embed, tuple(names), tuple(arguments))


def _shape(config: Config, source: Source, batch: int | AnySize, seconds: float | AnySize) -> tuple[Any, ...]:
    window, _ = window_and_hop(config.fbank)
    if batch != "any":
        check_value("batch", batch, Positive)
    if seconds != "any":
        check_value("seconds", seconds, _Seconds)
    symbols = {"waveform": ("samples", window), "fbank": ("frames", 1)}
    name, smallest = symbols[source]
    rows, length = jax_export.symbolic_shape(f"batch, {name}", constraints=["batch >= 1", f"{name} >= {smallest}"])
    if seconds != "any":
        length = round(seconds * config.fbank.sample_rate_hz)
        if length < window:
            raise UserError(
                f"{seconds:g} seconds are shorter than one window of the filterbank, {config.fbank.frame_length_ms:g} "
                "ms; give more, or 'any'."
            )
        length = length if source == "waveform" else num_frames(length, config.fbank)
    features = () if source == "waveform" else (config.fbank.num_features,)
    return (rows if batch == "any" else batch, length, *features)


def _embedding_function(
    config: Config, variables: Mapping[str, Any], source: Source, dtype: Precision
) -> Callable[..., Array]:
    model = dataclasses.replace(config.model, rematerialize=False)
    net, variables = fold_for_inference(build_speaker_net(model, dtype=dtype), variables)
    if dtype == "float16":
        variables = jax.tree.map(_narrow, variables)
    multiple = _stride(net.encoder, variables, config.fbank.num_features)

    def embed(values: Array, lengths: Array | None = None) -> Array:
        rows, size = values.shape[:2]
        lengths = jnp.full((rows,), size, jnp.int32) if lengths is None else jnp.minimum(lengths, size)
        real = jnp.arange(size)[None] < lengths[:, None]
        fbank, mask = log_mel_of_batch(values, lengths, config.fbank) if source == "waveform" else (values, real)
        finite = jnp.isfinite(values) | ~jnp.expand_dims(real, tuple(range(2, values.ndim)))
        usable = finite.all(axis=tuple(range(1, values.ndim))) & mask.any(axis=1)
        embedding = net.apply(variables, *_pad(subtract_mean(fbank, mask), mask, multiple), train=False)
        return jnp.where(usable[:, None], embedding, jnp.nan)

    return embed


def _narrow(weights: Array) -> Array:
    """float16, except vectors: the variances of a normalisation may be smaller than a float16 can be."""
    return weights.astype(jnp.float16) if weights.ndim > 1 else weights


def _stride(encoder: nn.Module, variables: Mapping[str, Any], num_features: int) -> int:
    """How many frames of the filterbank stand for one frame of the encoder's result."""
    own = {name: tree["encoder"] for name, tree in variables.items() if "encoder" in tree}
    fbank = jax.ShapeDtypeStruct((1, _PROBE_FRAMES, num_features), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, _PROBE_FRAMES), jnp.bool_)
    frames, _ = jax.eval_shape(lambda *arguments: encoder.apply(own, *arguments, train=False), fbank, mask)
    return math.ceil(_PROBE_FRAMES / frames.shape[1])


def _pad(
    fbank: Float[Array, "B T F"], mask: Bool[Array, "B T"], multiple: int
) -> tuple[Float[Array, "B padded F"], Bool[Array, "B padded"]]:
    """Pads to a multiple of the encoder's stride.

    Strided arrays then have the same size for the mask and for the frames in the eyes of JAX, which cannot prove that
    ``(T + 1) // 2`` is ``(T - 1) // 2 + 1`` for a symbolic T. Encoders are exact under padding.
    """
    num_frames = fbank.shape[1]
    filling = (num_frames + multiple - 1) // multiple * multiple - num_frames
    return jnp.pad(fbank, [(0, 0), (0, filling), (0, 0)]), jnp.pad(mask, [(0, 0), (0, filling)])
