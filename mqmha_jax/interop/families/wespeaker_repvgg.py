"""WeSpeaker's RepVGG, with its three branches or with the one convolution that they fold into."""

import re
from collections.abc import Sequence

from mqmha_jax.config import ModelConfig, part
from mqmha_jax.interop.families.wespeaker_constructors import require_model, require_whole_bands, shared_arguments
from mqmha_jax.interop.families.wespeaker_poolings import infer_pooling, pooling_constants, pooling_source
from mqmha_jax.interop.family import Constructor, Family
from mqmha_jax.interop.tensors import NoSourceError, Source, Tensors, conv2d, linear, norm
from mqmha_jax.models.encoders.repvgg import RepVgg

_NUM_STAGES = 4
_STRIDE = 8  # of all stages together; no tensor tells the strides, and all published sizes have the same
_WIDTHS = (64, 128, 256, 512)  # which the multipliers of the stages refer to
_MODELS = {
    **{f"REPVGG_{size}": part(f"repvgg_{size.lower()}") for size in ("TINY_A0", "A0", "A1", "A2", "B0", "B1")},
    "REPVGG_B2": part("repvgg_b0", width_multipliers=[2.5, 2.5, 2.5, 5.0]),
    "REPVGG_B3": part("repvgg_b0", width_multipliers=[3.0, 3.0, 3.0, 5.0]),
}
_BRANCHES = {"dense": "rbr_dense", "pointwise": "rbr_1x1"}


def _recognize(names: Sequence[str]) -> bool:
    return any(name.startswith(("stage0.rbr_dense.", "stage0.rbr_reparam.")) for name in names)


def _infer_model(tensors: Tensors, num_features: int) -> ModelConfig:
    folded = "stage0.rbr_reparam.weight" in tensors
    first = "rbr_reparam.weight" if folded else "rbr_dense.conv.weight"
    widths = [tensors.shape(f"stage{stage}.0.{first}", rank=4)[0] for stage in range(1, _NUM_STAGES + 1)]
    embedding_dim, num_statistics = tensors.shape("seg.weight", rank=2)
    return ModelConfig(
        encoder=part(
            "repvgg_tiny_a0",
            stage_sizes=[tensors.count(rf"stage{stage}\.(\d+)\.") for stage in range(1, _NUM_STAGES + 1)],
            width_multipliers=[width / unit for width, unit in zip(widths, _WIDTHS, strict=True)],
            folded=folded,
        ),
        pooling=infer_pooling(tensors, num_statistics, widths[-1] * -(-num_features // _STRIDE)),
        embedding_dim=embedding_dim,
    )


def _source(path: tuple[str, ...], config: ModelConfig) -> Source:
    match path:
        case ("encoder", module, "folded", leaf):
            return conv2d(f"{_block_name(module)}.rbr_reparam", leaf)
        case ("encoder", module, "identity", leaf):
            return norm(f"{_block_name(module)}.rbr_identity", leaf)
        case ("encoder", module, branch, kind, leaf):
            name = f"{_block_name(module)}.{_BRANCHES[branch]}"
            return norm(f"{name}.bn", leaf) if kind == "norm" else conv2d(f"{name}.conv", leaf)
        case ("pooling", *rest):
            return pooling_source(tuple(rest), config)
        case ("embedding", leaf):
            return linear("seg", leaf)
    raise NoSourceError(path)


def _block_name(module: str) -> str:
    if module == "stem":
        return "stage0"
    stage, block = re.findall(r"\d+", module)
    return f"stage{stage}.{int(block) - 1}"


def _constructor(config: ModelConfig, num_features: int) -> Constructor:
    require_whole_bands(num_features)
    folded = config.encoder.options["folded"]
    models = {name: part(encoder.name, folded=folded, **encoder.options) for name, encoder in _MODELS.items()}
    arguments = {**shared_arguments(config, num_features), "deploy": folded}
    return Constructor(require_model(models, config), arguments)


FAMILY = Family(
    title="WeSpeaker RepVGG",
    encoder=RepVgg,
    recognize=_recognize,
    infer_model=_infer_model,
    source=_source,
    constants=pooling_constants,
    constructor=_constructor,
)
