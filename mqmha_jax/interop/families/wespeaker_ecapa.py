"""WeSpeaker's ECAPA-TDNN, with and without the context of the whole utterance in its pooling."""

from collections.abc import Mapping, Sequence
from typing import Any

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.interop.families.wespeaker_constructors import has_context, require_encoder, shared_arguments
from mqmha_jax.interop.families.wespeaker_poolings import infer_pooling, pooling_constants, pooling_source
from mqmha_jax.interop.family import Constructor, Family
from mqmha_jax.interop.tensors import NoSourceError, Source, Tensors, conv1d, linear, norm, pointwise, require_features
from mqmha_jax.models.encoders.ecapa import EcapaTdnn

_DILATIONS = (2, 3, 4)  # of layer2 to layer4; no tensor tells them
_NAMED_WIDTHS = (512, 1024)


def _recognize(names: Sequence[str]) -> bool:
    return any(".se_res2block." in name for name in names)


def _infer_model(tensors: Tensors, num_features: int) -> ModelConfig:
    channels, inputs, _ = tensors.shape("layer1.conv.weight", rank=3)
    require_features(tensors, inputs, num_features)
    final_channels = tensors.shape("conv.weight", rank=3)[0]
    embedding_dim, num_statistics = tensors.shape("linear.weight", rank=2)
    affine = "bn2.weight" in tensors
    return ModelConfig(
        encoder=part(
            "ecapa512",
            channels=channels,
            final_channels=final_channels,
            dilations=list(_DILATIONS),
            scale=tensors.count(r"layer2\.se_res2block\.1\.convs\.(\d+)\.") + 1,
            bottleneck=tensors.shape("layer2.se_res2block.3.linear1.weight", rank=2)[0],
            summed_inputs=False,
        ),
        pooling=infer_pooling(tensors, num_statistics, final_channels),
        embedding_dim=embedding_dim,
        normalize_pooled=True,
        normalize_embedding=affine,
        affine_embedding_norm=affine,
    )


def _source(path: tuple[str, ...], config: ModelConfig) -> Source:
    match path:
        case ("encoder", "layer1", kind, leaf):
            return norm("layer1.bn", leaf) if kind == "norm" else conv1d("layer1.conv", leaf)
        case ("encoder", "join", leaf):
            return pointwise("conv", leaf)
        case ("encoder", layer, *inner):
            return _block_source(f"{layer}.se_res2block", inner, config.encoder.options)
        case ("pooling", *rest):
            return pooling_source(tuple(rest), config)
        case ("pooled_norm", leaf):
            return norm("bn", leaf)
        case ("embedding_norm", leaf):
            return norm("bn2", leaf)
        case ("embedding", leaf):
            return linear("linear", leaf)
    raise NoSourceError(path)


def _block_source(name: str, inner: Sequence[str], options: Mapping[str, Any]) -> Source:
    """A leaf of a block. Our first part of the channels, their last, passes Res2Net's hierarchy unchanged."""
    width = options["channels"] // options["scale"]
    match inner:
        case ("before", "norm", leaf):
            return norm(f"{name}.0.bn", leaf)._replace(rotate=(0, width))
        case ("before", _, leaf):
            return conv1d(f"{name}.0.conv", leaf)._replace(rotate=(0 if leaf == "bias" else 2, width))
        case ("after", "norm", leaf):
            return norm(f"{name}.2.bn", leaf)
        case ("after", _, leaf):
            source = conv1d(f"{name}.2.conv", leaf)
            return source if leaf == "bias" else source._replace(rotate=(1, width))
        case ("se", layer, leaf):
            return linear(f"{name}.3.linear{1 if layer == 'squeeze' else 2}", leaf)
        case (part, kind, leaf):
            index = int(part.removeprefix("part")) - 1
            return norm(f"{name}.1.bns.{index}", leaf) if kind == "norm" else conv1d(f"{name}.1.convs.{index}", leaf)
    raise NoSourceError(inner)


def _constructor(config: ModelConfig, num_features: int) -> Constructor:
    channels, context = config.encoder.options["channels"], has_context(config)
    require_encoder("ECAPA_TDNN", part("ecapa512", channels=channels, summed_inputs=False), config)
    arguments = shared_arguments(config, num_features, context=context)
    if config.normalize_embedding:
        arguments["emb_bn"] = True  # left out otherwise, because older versions lack it
    if channels in _NAMED_WIDTHS:
        return Constructor(f"ECAPA_TDNN_{'GLOB_' if context else ''}c{channels}", arguments)
    return Constructor("ECAPA_TDNN", {**arguments, "channels": channels, "global_context_att": context})


FAMILY = Family(
    title="WeSpeaker ECAPA-TDNN",
    encoder=EcapaTdnn,
    recognize=_recognize,
    infer_model=_infer_model,
    source=_source,
    constants=pooling_constants,
    constructor=_constructor,
)
