"""WeSpeaker's ReDimNet."""

from collections.abc import Mapping, Sequence

from mqmha_jax.config import FbankSpec, ModelConfig, part
from mqmha_jax.interop.families.wespeaker_constructors import find_model, has_context, shared_arguments
from mqmha_jax.interop.families.wespeaker_poolings import (
    embedding_layers,
    embedding_source,
    infer_pooling,
    pooling_constants,
    pooling_source,
)
from mqmha_jax.interop.family import Constructor, Family, Shapes
from mqmha_jax.interop.tensors import (
    NoSourceError,
    Source,
    Tensors,
    conv1d,
    conv2d,
    linear,
    norm,
    pointwise,
    require_features,
)
from mqmha_jax.models.encoders.redimnet import ReDimNet

_BLOCK_LAYERS = {
    "context": "dwconvs.0",
    "norm": "norm",
    "pointwise": "pwconv1",
    "conv1": "conv1",
    "pointwise1": "conv1pw",
    "norm1": "bn1",
    "conv2": "conv2",
    "pointwise2": "conv2pw",
    "norm2": "bn2",
}
_ATTENTION_LAYERS = {
    "query": "attention.q_proj",
    "key": "attention.k_proj",
    "value": "attention.v_proj",
    "join": "attention.out_proj",
    "hidden": "feed_forward.intermediate_dense",
    "output": "feed_forward.output_dense",
    "norm": "layer_norm",
    "final_norm": "final_layer_norm",
}
_NUM_TIME_CONVOLUTIONS = 4
_MODELS = {f"ReDimNetB{size}": part(f"redimnet_b{size}") for size in range(7)}


def _recognize(names: Sequence[str]) -> bool:
    return "backbone.inputs_weights.0" in names


def _infer_model(tensors: Tensors, num_features: int) -> ModelConfig:
    channels = tensors.shape("backbone.stem.0.weight", rank=4)[0]
    width = tensors.shape("backbone.inputs_weights.1", rank=4)[2]
    require_features(tensors, width // channels, num_features)
    num_stages = tensors.count(r"backbone\.stage(\d+)\.")
    stages = [_infer_stage(tensors, stage, width) for stage in range(num_stages)]
    block = f"backbone.stage{num_stages - 1}.1.conv_block"
    is_convnext = f"{block}.dwconvs.0.weight" in tensors
    first = "dwconvs.0" if is_convnext else "conv1"
    final_channels = tensors.shape("backbone.mfa.0.weight", rank=3)[0] if "backbone.mfa.0.weight" in tensors else None
    num_statistics = tensors.shape("seg_1.weight", rank=2)[1]
    return ModelConfig(
        encoder=part(
            "redimnet_b2",
            channels=channels,
            stages=stages,
            block="convnext" if is_convnext else "resnet",
            squeeze=f"{block}.se.squeeze.weight" in tensors,
            group_divisor=tensors.shape(f"{block}.{first}.weight", rank=4)[1],
            final_channels=final_channels,
        ),
        pooling=infer_pooling(tensors, num_statistics, final_channels or width),
        **embedding_layers(tensors),
    )


def _infer_stage(tensors: Tensors, stage: int, width: int) -> list[int | None]:
    name = f"backbone.stage{stage}"
    channels_out, channels_in, stride, _ = tensors.shape(f"{name}.0.weight", rank=4)
    expansion = channels_out // (channels_in * stride)
    num_blocks = tensors.count(rf"backbone\.stage{stage}\.(\d+)\.conv_block\.")
    time = f"{name}.{_time_index(num_blocks, expansion)}.red_dim_conv.0.weight"
    reduction = width // tensors.shape(time, rank=3)[0] if time in tensors else None
    return [stride, num_blocks, expansion, reduction]


def _time_index(num_blocks: int, expansion: int) -> int:
    """Number of the block over time in its stage: behind the resizing, the blocks, the shrinking and a reshape."""
    return num_blocks + 2 + (expansion > 1)


def _source(path: tuple[str, ...], config: ModelConfig) -> Source:
    match path:
        case ("encoder", weights) if weights.startswith("weights"):
            return Source(f"backbone.inputs_weights.{int(weights[7:]) - 1}", (0, 1, 2), unit_axes=1)
        case ("encoder", "stem", leaf):
            return conv2d("backbone.stem.0", leaf)
        case ("encoder", "stem_norm", leaf):
            return norm("backbone.stem.1", leaf)
        case ("encoder", "final", leaf):
            return pointwise("backbone.mfa.0", leaf)
        case ("encoder", "final_norm", leaf):
            return norm("backbone.mfa.1", leaf)
        case ("encoder", stage, *inner):
            return _stage_source(int(stage.removeprefix("stage")) - 1, inner, config)
        case ("pooling", *rest):
            return pooling_source(tuple(rest), config)
    return embedding_source(path, config)


def _stage_source(stage: int, inner: Sequence[str], config: ModelConfig) -> Source:
    name = f"backbone.stage{stage}"
    _, num_blocks, expansion, _ = config.encoder.options["stages"][stage]
    match inner:
        case ("resize", leaf):
            return conv2d(f"{name}.0", leaf)
        case ("shrink", leaf):
            return conv2d(f"{name}.{num_blocks + 1}.0", leaf)
        case ("shrink_norm", leaf):
            return norm(f"{name}.{num_blocks + 1}.1", leaf)
        case ("shrink_pointwise", leaf):
            return _pointwise2d(f"{name}.{num_blocks + 1}.3", leaf)
        case ("time", *rest):
            return _time_source(f"{name}.{_time_index(num_blocks, expansion)}", rest)
        case (block, "squeeze", layer, leaf):
            return linear(f"{name}.{block[5:]}.conv_block.se.{'squeeze' if layer == 'squeeze' else 'exitation'}", leaf)
        case (block, layer, leaf):
            full = f"{name}.{block[5:]}.conv_block.{_BLOCK_LAYERS[layer]}"
            if layer.startswith("norm"):
                return norm(full, leaf)
            return _pointwise2d(full, leaf) if layer.startswith("pointwise") else conv2d(full, leaf)
    raise NoSourceError(inner)


def _time_source(name: str, inner: Sequence[str]) -> Source:
    match inner:
        case ("narrow", leaf):
            return pointwise(f"{name}.red_dim_conv.0", leaf)
        case ("narrow_norm", leaf):
            return norm(f"{name}.red_dim_conv.1", leaf)
        case ("widen", leaf):
            return pointwise(f"{name}.exp_dim_conv", leaf)
        case ("attention", layer, leaf):
            full = f"{name}.tcm.{_NUM_TIME_CONVOLUTIONS}.{_ATTENTION_LAYERS[layer]}"
            return norm(full, leaf) if layer.endswith("norm") else linear(full, leaf)
        case (conv, layer, leaf):
            full = f"{name}.tcm.{int(conv[4:]) - 1}.{_BLOCK_LAYERS[layer]}"
            if layer == "norm":
                return norm(full, leaf)
            return pointwise(full, leaf) if layer == "pointwise" else conv1d(full, leaf)
    raise NoSourceError(inner)


def _pointwise2d(name: str, leaf: str) -> Source:
    """A leaf of a 1x1 convolution that is a dense layer here: (out, in, 1, 1) -> (in, out)."""
    return Source(f"{name}.bias") if leaf == "bias" else Source(f"{name}.weight", (1, 0), unit_axes=2)


def _constants(config: ModelConfig, shapes: Shapes) -> Mapping[str, tuple[int, ...]]:
    # The first stage reads one result only, so its weight is 1 whatever it holds.
    return {"backbone.inputs_weights.0": (1, 1, 1, 1), **pooling_constants(config, shapes)}


def _constructor(config: ModelConfig, num_features: int) -> Constructor:
    context = config.pooling.name != "ccasp" or has_context(config)  # other poolings ignore it
    arguments = shared_arguments(config, num_features, context=context)
    arguments["two_emb_layer"] = config.embedding_layers == 2
    if context and (name := find_model(_MODELS, config)):
        return Constructor(name, arguments)
    options = config.encoder.options
    blocks = "basic_resnet_fwse" if options["squeeze"] else "basic_resnet"
    return Constructor(
        "ReDimNet",
        {
            **arguments,
            "C": options["channels"],
            "block_1d_type": "conv+att",
            "block_2d_type": "convnext_like" if options["block"] == "convnext" else blocks,
            # WeSpeaker does not read the kernel sizes of a stage, the value before the last.
            "stages_setup": [[*sizes, [[3, 3]], reduction] for *sizes, reduction in options["stages"]],
            "group_divisor": options["group_divisor"],
            "out_channels": options["final_channels"],
            "global_context_att": context,
        },
    )


FAMILY = Family(
    title="WeSpeaker ReDimNet",
    encoder=ReDimNet,
    recognize=_recognize,
    infer_model=_infer_model,
    source=_source,
    constants=_constants,
    constructor=_constructor,
    fbank=FbankSpec(num_mel_bins=72),
)
