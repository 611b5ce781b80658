"""CAM++. WeSpeaker and 3D-Speaker store it under the same names, but differ in features and pooling."""

import dataclasses
import re
from collections.abc import Sequence

from mqmha_jax.config import FbankSpec, ModelConfig, part
from mqmha_jax.interop.families.wespeaker_constructors import require_encoder, require_whole_bands, shared_arguments
from mqmha_jax.interop.families.wespeaker_poolings import infer_pooling
from mqmha_jax.interop.families.wespeaker_resnet import layer_name
from mqmha_jax.interop.family import Constructor, Family, NoConstructorError
from mqmha_jax.interop.tensors import NoSourceError, Source, Tensors, conv1d, conv2d, norm, pointwise, require_features
from mqmha_jax.models.encoders.campplus import CamPlusPlus

_DILATIONS = (1, 2, 2)  # of the three blocks; no tensor tells them
_BAND_STRIDE = 8  # of the front end


def _recognize(names: Sequence[str]) -> bool:
    return "xvector.tdnn.linear.weight" in names


def _infer_model(tensors: Tensors, num_features: int) -> ModelConfig:
    width = tensors.shape("head.conv1.weight", rank=4)[0]
    first_channels, inputs, _ = tensors.shape("xvector.tdnn.linear.weight", rank=3)
    if inputs != width * -(-num_features // _BAND_STRIDE):
        require_features(tensors, inputs // width * _BAND_STRIDE, num_features)
    growth, bottleneck, _ = tensors.shape("xvector.block1.tdnnd1.cam_layer.linear_local.weight", rank=3)
    final_channels = tensors.shape("xvector.transit3.linear.weight", rank=3)[0]
    embedding_dim, num_statistics, _ = tensors.shape("xvector.dense.linear.weight", rank=3)
    return ModelConfig(
        encoder=part(
            "campplus",
            width=width,
            first_channels=first_channels,
            growth=growth,
            bottleneck_factor=bottleneck // growth,
            block_sizes=[tensors.count(rf"xvector\.block{i}\.tdnnd(\d+)\.") for i in (1, 2, 3)],
            dilations=list(_DILATIONS),
        ),
        pooling=infer_pooling(tensors, num_statistics, final_channels),
        embedding_dim=embedding_dim,
        embedding_bias=False,
        normalize_embedding=True,
        affine_embedding_norm="xvector.dense.nonlinear.batchnorm.weight" in tensors,
    )


_DENSE_LAYER = {
    "before": "nonlinear1.batchnorm",
    "reduce": "linear1",
    "inner": "nonlinear2.batchnorm",
    "local": "cam_layer.linear_local",
    "squeeze": "cam_layer.linear1",
    "excite": "cam_layer.linear2",
}


def _source(path: tuple[str, ...], config: ModelConfig) -> Source:
    match path:
        case ("encoder", "front", *modules, "conv", "kernel"):
            return conv2d(_front_name(modules, "conv", "shortcut.0"), "kernel")
        case ("encoder", "front", *modules, "norm", leaf):
            return norm(_front_name(modules, "bn", "shortcut.1"), leaf)
        case ("encoder", "first", leaf):
            return conv1d("xvector.tdnn.linear", leaf)
        case ("encoder", "first_norm", _, leaf):
            return norm("xvector.tdnn.nonlinear.batchnorm", leaf)
        case ("encoder", "last_norm", _, leaf):
            return norm("xvector.out_nonlinear.batchnorm", leaf)
        case ("encoder", module, *inner):
            return _dense_source(module, inner)
        case ("embedding", leaf):
            return pointwise("xvector.dense.linear", leaf)
        case ("embedding_norm", leaf):
            return norm("xvector.dense.nonlinear.batchnorm", leaf)
    raise NoSourceError(path)


def _front_name(modules: Sequence[str], kind: str, shortcut: str) -> str:
    return f"head.{kind}2" if modules == ["reduce"] else f"head.{layer_name(modules, kind, shortcut)}"


def _dense_source(module: str, inner: Sequence[str]) -> Source:
    """A leaf of ``block1_layer2``, ``transit1`` or ``transit1_norm``."""
    if found := re.fullmatch(r"block(\d+)_layer(\d+)", module):
        *_, layer, leaf = [name for name in inner if name not in ("gate", "norm")]
        name = f"xvector.block{found[1]}.tdnnd{found[2]}.{_DENSE_LAYER[layer]}"
        if layer in ("before", "inner"):
            return norm(name, leaf)
        return conv1d(name, leaf) if layer == "local" else pointwise(name, leaf)
    name = f"xvector.{module.removesuffix('_norm')}"
    return (
        norm(f"{name}.nonlinear.batchnorm", inner[-1]) if "norm" in module else pointwise(f"{name}.linear", inner[-1])
    )


def _infer_model_of_3dspeaker(tensors: Tensors, num_features: int) -> ModelConfig:
    config = _infer_model(tensors, num_features)
    return dataclasses.replace(config, pooling=part("tstp", variance_offset=0.0))


# WeSpeaker's arguments -> our options.
_ARGUMENTS = {"growth_rate": "growth", "bn_size": "bottleneck_factor", "init_channels": "first_channels"}


def _constructor(config: ModelConfig, num_features: int) -> Constructor:
    require_whole_bands(num_features)
    options = config.encoder.options
    require_encoder("CAMPPlus", part("campplus", **{ours: options[ours] for ours in _ARGUMENTS.values()}), config)
    if config.affine_embedding_norm:
        raise NoConstructorError("its CAMPPlus normalises the embedding without scale and bias, and this network with")
    sizes = {theirs: options[ours] for theirs, ours in _ARGUMENTS.items()}
    return Constructor("CAMPPlus", {**shared_arguments(config, num_features), **sizes})


WESPEAKER = Family(
    title="WeSpeaker CAM++",
    encoder=CamPlusPlus,
    recognize=_recognize,
    infer_model=_infer_model,
    source=_source,
    constructor=_constructor,
)

THREE_D_SPEAKER = Family(
    title="3D-Speaker CAM++",
    encoder=CamPlusPlus,
    recognize=_recognize,
    infer_model=_infer_model_of_3dspeaker,
    source=_source,
    fbank=FbankSpec(window="povey"),
)
