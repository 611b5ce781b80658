"""WeSpeaker's SimAM-ResNets with attentive statistics."""

import re
from collections.abc import Sequence

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.interop.families.scorer import score_biases, single_head
from mqmha_jax.interop.families.wespeaker_constructors import require_model, require_pooling, require_whole_bands
from mqmha_jax.interop.family import Constructor, Family, Shapes
from mqmha_jax.interop.tensors import NoSourceError, Source, Tensors, conv2d, linear, norm
from mqmha_jax.models.encoders.resnet import ResNet

_NUM_STAGES = 4
_POOLING = {"channel_wise": True, "activation": "relu_norm", "variance_floor": 1e-5}


def _recognize(names: Sequence[str]) -> bool:
    return "front.conv1.weight" in names and "pooling.attention.0.weight" in names


def _infer_model(tensors: Tensors, num_features: int) -> ModelConfig:
    return ModelConfig(
        encoder=part(
            "simam_resnet34",
            stage_sizes=[tensors.count(rf"front\.layer{stage}\.(\d+)\.") for stage in range(1, _NUM_STAGES + 1)],
            width=tensors.shape("front.conv1.weight", rank=4)[0],
        ),
        pooling=part("asp", bottleneck=tensors.shape("pooling.attention.0.weight", rank=3)[0], **_POOLING),
        embedding_dim=tensors.shape("bottleneck.weight", rank=2)[0],
    )


def _source(path: tuple[str, ...], config: ModelConfig) -> Source:
    match path:
        case ("encoder", "stem", kind, leaf):
            return norm("front.bn1", leaf) if kind == "norm" else conv2d("front.conv1", leaf)
        case ("encoder", module, layer, kind, leaf):
            stage, block = re.findall(r"\d+", module)
            conv, bn = (
                ("downsample.0", "downsample.1") if layer == "shortcut" else (f"conv{layer[5:]}", f"bn{layer[5:]}")
            )
            name = f"front.layer{stage}.{int(block) - 1}"
            return norm(f"{name}.{bn}", leaf) if kind == "norm" else conv2d(f"{name}.{conv}", leaf)
        case ("pooling", "hidden_norm", leaf):
            return norm("pooling.attention.2", leaf)
        case ("pooling", layer, leaf):
            return single_head(f"pooling.attention.{0 if layer == 'hidden' else 3}", leaf)
        case ("embedding", leaf):
            return linear("bottleneck", leaf)
    raise NoSourceError(path)


def _constants(config: ModelConfig, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return score_biases(shapes, "pooling.attention.3.bias")


def _constructor(config: ModelConfig, num_features: int) -> Constructor:
    require_whole_bands(num_features)
    width = config.encoder.options["width"]
    models = {f"SimAM_ResNet{size}_ASP": part(f"simam_resnet{size}", width=width) for size in (34, 100)}
    require_pooling("ASP", part("asp", bottleneck=128, **_POOLING), config)
    arguments = {"in_planes": width, "embed_dim": config.embedding_dim, "acoustic_dim": num_features}
    return Constructor(require_model(models, config), arguments)


FAMILY = Family(
    title="WeSpeaker SimAM-ResNet",
    encoder=ResNet,
    recognize=_recognize,
    infer_model=_infer_model,
    source=_source,
    constants=_constants,
    constructor=_constructor,
)
