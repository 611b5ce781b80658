"""Res2Net and ERes2Net of WeSpeaker, ERes2NetV2 of 3D-Speaker: one scheme of names for all.

3D-Speaker's ERes2Net is not among them: it names the layers of its fusing blocks otherwise than WeSpeaker's.
"""

import dataclasses
import re
from collections.abc import Sequence

from mqmha_jax.config import FbankSpec, ModelConfig, part
from mqmha_jax.errors import UserError
from mqmha_jax.interop.families.wespeaker_constructors import (
    find_model,
    require_encoder,
    require_whole_bands,
    shared_arguments,
)
from mqmha_jax.interop.families.wespeaker_poolings import (
    embedding_layers,
    embedding_source,
    infer_pooling,
    pooling_constants,
    pooling_source,
)
from mqmha_jax.interop.family import Constructor, Family
from mqmha_jax.interop.tensors import Source, Tensors, conv2d, norm
from mqmha_jax.models.encoders.res2net import Res2Net

_NUM_STAGES = 4
_OF_V2 = "layer3_ds.weight"  # no other network of this scheme has it
_STRIDE = 8  # of all stages together, over time and frequency
_FUSIONS = {"all": ("layer{}_downsample", "fuse_mode{}"), "last": ("layer{}_ds", "fuse{}")}
_MODELS = {
    "Res2Net34_Base": part("res2net"),
    "Res2Net34_Large": part("res2net", width=64),
    "ERes2Net34_Base": part("eres2net"),
    "ERes2Net34_Large": part("eres2net_large"),
    "ERes2Net34_aug": part("eres2net_aug"),
}
_ATTENTION = {"squeeze": (0, 1), "attend": (3, 4)}  # numbers of convolution and normalisation in their sequence


def _recognize(names: Sequence[str]) -> bool:
    return "layer1.0.convs.0.weight" in names and not _recognize_v2(names)


def _recognize_v2(names: Sequence[str]) -> bool:
    return "layer1.0.convs.0.weight" in names and _OF_V2 in names


def _infer_wespeaker(tensors: Tensors, num_features: int) -> ModelConfig:
    if _OF_V2 in tensors:
        raise UserError(f"The tensor {_OF_V2!r} makes it an ERes2NetV2, which WeSpeaker lacks.")
    return _infer_model(tensors, num_features)


def _infer_v2(tensors: Tensors, num_features: int) -> ModelConfig:
    tensors.shape(_OF_V2, rank=4)  # says that it is missing
    config = _infer_model(tensors, num_features)
    if config.pooling.name not in ("tap", "tstp"):
        raise UserError("3D-Speaker's ERes2NetV2 has statistics pooling, tap or tstp, and no attention.")
    return config


def _infer_model(tensors: Tensors, num_features: int) -> ModelConfig:
    width = tensors.shape("conv1.weight", rank=4)[0]
    part_width = tensors.shape("layer4.0.convs.0.weight", rank=4)[0]
    num_statistics = tensors.shape("seg_1.weight", rank=2)[1]
    expansion = tensors.shape("layer1.0.conv3.weight", rank=4)[0] // width
    num_channels = 8 * width * expansion * -(-num_features // _STRIDE)
    fusion = "all" if "layer1_downsample.weight" in tensors else "last" if "layer3_ds.weight" in tensors else "none"
    stage_sizes = [tensors.count(rf"layer{stage}\.(\d+)\.") for stage in range(1, _NUM_STAGES + 1)]
    narrow, first_part = (tensors.shape(f"layer1.0.{name}.weight", rank=4)[0] for name in ("conv1", "convs.0"))
    return ModelConfig(
        encoder=part(
            "res2net",
            stage_sizes=stage_sizes,
            width=width,
            # A part of the last stage has ``8 width * base_width / 64`` channels, rounded down.
            base_width=-(-part_width * 8 // width),
            scale=narrow // first_part,
            expansion=expansion,
            enhanced=fusion != "none",
            fusion=fusion,
        ),
        pooling=infer_pooling(tensors, num_statistics, num_channels),
        **embedding_layers(tensors),
    )


def _source(path: tuple[str, ...], config: ModelConfig) -> Source:
    match path:
        case ("encoder", "stem", kind, leaf):
            return norm("bn1", leaf) if kind == "norm" else conv2d("conv1", leaf)
        case ("encoder", module, leaf):
            return conv2d(_fusion_names(config)[0].format(module.removeprefix("stage")[0]), leaf)
        case ("encoder", module, inner, kind, leaf) if module.endswith("_fusion"):
            stages = "1234"[: int(module[5])] if config.encoder.options["fusion"] == "all" else "34"
            return _attention(_fusion_names(config)[1].format(stages), inner, kind, leaf)
        case ("encoder", module, inner, *rest):
            stage, block = re.findall(r"\d+", module)
            return _block_source(f"layer{stage}.{int(block) - 1}", int(stage), inner, rest, config)
        case ("pooling", *rest):
            return pooling_source(tuple(rest), config)
    return embedding_source(path, config)


def _fusion_names(config: ModelConfig) -> tuple[str, str]:
    return _FUSIONS[config.encoder.options["fusion"]]


def _block_source(name: str, stage: int, inner: str, rest: Sequence[str], config: ModelConfig) -> Source:
    kind, leaf = rest[-2:]
    if inner.startswith("fusion"):
        return _attention(f"{name}.fuse_models.{int(inner[6:]) - 2}", rest[0], kind, leaf)
    if inner.startswith("part"):
        index = int(inner[4:]) - 1
        # ERes2Net's fusing blocks name the first part's layers like no other; those of V2 do not.
        if stage > 2 and config.encoder.options["fusion"] == "all":
            conv, bn = (f"convs.{index - 1}", f"bns.{index - 1}") if index else ("conv2_1", "bn2_1")
        else:
            conv, bn = f"convs.{index}", f"bns.{index}"
    else:
        conv, bn = {
            "narrow": ("conv1", "bn1"),
            "widen": ("conv3", "bn3"),
            "shortcut": ("shortcut.0", "shortcut.1"),
        }[inner]
    return norm(f"{name}.{bn}", leaf) if kind == "norm" else conv2d(f"{name}.{conv}", leaf)


def _attention(name: str, layer: str, kind: str, leaf: str) -> Source:
    conv, bn = _ATTENTION[layer]
    return norm(f"{name}.local_att.{bn}", leaf) if kind == "norm" else conv2d(f"{name}.local_att.{conv}", leaf)


def _constructor(config: ModelConfig, num_features: int) -> Constructor:
    require_whole_bands(num_features)
    arguments = {**shared_arguments(config, num_features), "two_emb_layer": config.embedding_layers == 2}
    if name := find_model(_MODELS, config):
        return Constructor(name, arguments)
    options = config.encoder.options
    arguments |= {"m_channels": options["width"], "num_blocks": list(options["stage_sizes"])}
    if options["enhanced"]:
        sizes = {"expansion": options["expansion"], "baseWidth": options["base_width"], "scale": options["scale"]}
        return Constructor("ERes2Net", arguments | sizes)
    fixed = part("res2net", stage_sizes=list(options["stage_sizes"]), width=options["width"])
    require_encoder("Res2Net", fixed, config)
    return Constructor("Res2Net", arguments)


FAMILY = Family(
    title="WeSpeaker Res2Net or ERes2Net",
    encoder=Res2Net,
    recognize=_recognize,
    infer_model=_infer_wespeaker,
    source=_source,
    constants=pooling_constants,
    constructor=_constructor,
)
V2_FAMILY = dataclasses.replace(
    FAMILY,
    title="3D-Speaker ERes2NetV2",
    recognize=_recognize_v2,
    infer_model=_infer_v2,
    constructor=None,
    fbank=FbankSpec(window="povey"),
)
