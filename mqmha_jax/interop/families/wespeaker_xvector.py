"""WeSpeaker's x-vector (XVEC)."""

from collections.abc import Sequence

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.interop.families.wespeaker_constructors import require_encoder, shared_arguments
from mqmha_jax.interop.families.wespeaker_poolings import (
    embedding_layers,
    embedding_source,
    infer_pooling,
    pooling_constants,
    pooling_source,
)
from mqmha_jax.interop.family import Constructor, Family, NoConstructorError
from mqmha_jax.interop.tensors import Source, Tensors, conv1d, norm, require_features
from mqmha_jax.models.encoders.tdnn import TDNN

_DILATIONS = (1, 2, 3, 1, 1)  # no tensor tells them


def _recognize(names: Sequence[str]) -> bool:
    return "frame_1.conv_1d.weight" in names


def _infer_model(tensors: Tensors, num_features: int) -> ModelConfig:
    shapes = [tensors.shape(f"frame_{i}.conv_1d.weight", rank=3) for i in range(1, len(_DILATIONS) + 1)]
    require_features(tensors, shapes[0][1], num_features)
    final_channels = shapes[-1][0]
    return ModelConfig(
        encoder=part(
            "xvector",
            channels=shapes[0][0],
            final_channels=final_channels,
            kernel_sizes=[shape[2] for shape in shapes],
            dilations=list(_DILATIONS),
        ),
        pooling=infer_pooling(tensors, tensors.shape("seg_1.weight", rank=2)[1], final_channels),
        **embedding_layers(tensors),
    )


def _source(path: tuple[str, ...], config: ModelConfig) -> Source:
    match path:
        case ("encoder", layer, kind, leaf):
            name = f"frame_{layer.removeprefix('layer')}"
            return norm(f"{name}.bn", leaf) if kind == "norm" else conv1d(f"{name}.conv_1d", leaf)
        case ("pooling", *rest):
            return pooling_source(tuple(rest), config)
    return embedding_source(path, config)


def _constructor(config: ModelConfig, num_features: int) -> Constructor:
    sizes = {name: config.encoder.options[name] for name in ("channels", "final_channels")}
    require_encoder("XVEC", part("xvector", **sizes), config)
    if config.embedding_layers != 2:
        raise NoConstructorError("its XVEC always has two embedding layers, and this network has one")
    arguments = shared_arguments(config, num_features)
    return Constructor("XVEC", {**arguments, "hid_dim": sizes["channels"], "stats_dim": sizes["final_channels"]})


FAMILY = Family(
    title="WeSpeaker XVEC",
    encoder=TDNN,
    recognize=_recognize,
    infer_model=_infer_model,
    source=_source,
    constants=pooling_constants,
    constructor=_constructor,
)
