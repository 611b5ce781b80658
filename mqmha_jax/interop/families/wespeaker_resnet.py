"""WeSpeaker's ResNets."""

import re
from collections.abc import Sequence

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.interop.families.wespeaker_constructors import require_model, require_whole_bands, shared_arguments
from mqmha_jax.interop.families.wespeaker_poolings import (
    embedding_layers,
    embedding_source,
    infer_pooling,
    pooling_constants,
    pooling_source,
)
from mqmha_jax.interop.family import Constructor, Family
from mqmha_jax.interop.tensors import Source, Tensors, conv2d, norm
from mqmha_jax.models.encoders.resnet import ResNet

_NUM_STAGES = 4
_STRIDE = 8  # of all stages together, over time and frequency
_MODELS = {f"ResNet{size}": part(f"resnet{size}") for size in (18, 34, 50, 101, 152, 221, 293)}


def _recognize(names: Sequence[str]) -> bool:
    return (
        "layer1.0.bn1.weight" in names and "layer1.0.conv1.weight" in names and not any(".convs." in n for n in names)
    )


def _infer_model(tensors: Tensors, num_features: int) -> ModelConfig:
    width = tensors.shape("conv1.weight", rank=4)[0]
    num_statistics = tensors.shape("seg_1.weight", rank=2)[1]
    bottleneck = "layer1.0.conv3.weight" in tensors
    stage_sizes = [tensors.count(rf"layer{stage}\.(\d+)\.") for stage in range(1, _NUM_STAGES + 1)]
    num_channels = width * 2 ** (_NUM_STAGES - 1) * (4 if bottleneck else 1) * -(-num_features // _STRIDE)
    return ModelConfig(
        encoder=part("resnet50" if bottleneck else "resnet34", stage_sizes=stage_sizes, width=width),
        pooling=infer_pooling(tensors, num_statistics, num_channels),
        **embedding_layers(tensors),
    )


def _source(path: tuple[str, ...], config: ModelConfig) -> Source:
    match path:
        case ("encoder", *modules, "conv", "kernel"):
            return conv2d(layer_name(modules, "conv", "shortcut.0"), "kernel")
        case ("encoder", *modules, "norm", leaf):
            return norm(layer_name(modules, "bn", "shortcut.1"), leaf)
        case ("pooling", *rest):
            return pooling_source(tuple(rest), config)
    return embedding_source(path, config)


def layer_name(modules: Sequence[str], kind: str, shortcut: str) -> str:
    """The foreign name of ``["stem"]``, ``["stage2_block1", "layer2"]`` or ``["stage2_block1", "shortcut"]``."""
    if modules == ["stem"]:
        return f"{kind}1"
    stage, block = re.findall(r"\d+", modules[0])
    layer = shortcut if modules[1] == "shortcut" else kind + modules[1].removeprefix("layer")
    return f"layer{stage}.{int(block) - 1}.{layer}"


def _constructor(config: ModelConfig, num_features: int) -> Constructor:
    require_whole_bands(num_features)
    arguments = shared_arguments(config, num_features)
    return Constructor(require_model(_MODELS, config), {**arguments, "two_emb_layer": config.embedding_layers == 2})


FAMILY = Family(
    title="WeSpeaker ResNet",
    encoder=ResNet,
    recognize=_recognize,
    infer_model=_infer_model,
    source=_source,
    constants=pooling_constants,
    constructor=_constructor,
)
