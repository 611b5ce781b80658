"""SpeechBrain's ECAPA-TDNN."""

from collections.abc import Sequence

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.interop.families.scorer import score_biases, single_head
from mqmha_jax.interop.family import Family, Shapes
from mqmha_jax.interop.tensors import NoSourceError, Source, Tensors, conv1d, norm, pointwise, require_features
from mqmha_jax.models.encoders.ecapa import EcapaTdnn

_DILATIONS = (2, 3, 4)  # of blocks.1 to blocks.3; no tensor tells them


def _recognize(names: Sequence[str]) -> bool:
    return "blocks.0.conv.conv.weight" in names and any(name.startswith("blocks.1.res2net_block.") for name in names)


def _infer_model(tensors: Tensors, num_features: int) -> ModelConfig:
    channels, inputs, _ = tensors.shape("blocks.0.conv.conv.weight", rank=3)
    require_features(tensors, inputs, num_features)
    final_channels = tensors.shape("mfa.conv.conv.weight", rank=3)[0]
    bottleneck, scored, _ = tensors.shape("asp.tdnn.conv.conv.weight", rank=3)
    return ModelConfig(
        encoder=part(
            "ecapa512",
            channels=channels,
            final_channels=final_channels,
            dilations=list(_DILATIONS),
            scale=tensors.count(r"blocks\.1\.res2net_block\.blocks\.(\d+)\.") + 1,
            bottleneck=tensors.shape("blocks.1.se_block.conv1.conv.weight", rank=3)[0],
            summed_inputs=False,
            normalize_joined=True,
            edges="reflected",
        ),
        pooling=part(
            "ccasp",
            bottleneck=bottleneck,
            context=scored == 3 * final_channels,
            activation="relu_norm_tanh",
            variance_floor=1e-12,
        ),
        embedding_dim=tensors.shape("fc.conv.weight", rank=3)[0],
        normalize_pooled=True,
    )


def _source(path: tuple[str, ...], config: ModelConfig) -> Source:
    match path:
        case ("encoder", "layer1", kind, leaf):
            return _tdnn("blocks.0", kind, leaf)
        case ("encoder", "join", leaf):
            return pointwise("mfa.conv.conv", leaf)
        case ("encoder", "join_norm", leaf):
            return norm("mfa.norm.norm", leaf)
        case ("encoder", layer, "se", part, leaf):
            return pointwise(f"{_block(layer)}.se_block.conv{1 if part == 'squeeze' else 2}.conv", leaf)
        case ("encoder", layer, "before" | "after" as part, kind, leaf):
            return _tdnn(f"{_block(layer)}.tdnn{1 if part == 'before' else 2}", kind, leaf)
        case ("encoder", layer, part, kind, leaf):
            return _tdnn(f"{_block(layer)}.res2net_block.blocks.{int(part.removeprefix('part')) - 1}", kind, leaf)
        case ("pooling", "hidden_norm", leaf):
            return norm("asp.tdnn.norm.norm", leaf)
        case ("pooling", "hidden" | "score" as part, leaf):
            return single_head("asp.tdnn.conv.conv" if part == "hidden" else "asp.conv.conv", leaf)
        case ("pooled_norm", leaf):
            return norm("asp_bn.norm", leaf)
        case ("embedding", leaf):
            return pointwise("fc.conv", leaf)
    raise NoSourceError(path)


def _block(layer: str) -> str:
    return f"blocks.{int(layer.removeprefix('layer')) - 1}"


def _tdnn(name: str, kind: str, leaf: str) -> Source:
    return norm(f"{name}.norm.norm", leaf) if kind == "norm" else conv1d(f"{name}.conv.conv", leaf)


def _constants(config: ModelConfig, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return score_biases(shapes, "asp.conv.conv.bias")


FAMILY = Family(
    title="SpeechBrain ECAPA-TDNN",
    encoder=EcapaTdnn,
    recognize=_recognize,
    infer_model=_infer_model,
    source=_source,
    constants=_constants,
    remark=(
        "SpeechBrain computes its features in its own way. The network is exact on those; on this project's Kaldi "
        "filterbank it needs fine-tuning (start.run)."
    ),
)
