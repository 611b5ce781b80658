"""WeSpeaker's poolings and embedding layers, which most of its networks share."""

from typing import Any

from mqmha_jax.config import ModelConfig, Part, part
from mqmha_jax.errors import UserError
from mqmha_jax.interop.families.scorer import SCORE, score_biases, single_head
from mqmha_jax.interop.family import Shapes
from mqmha_jax.interop.tensors import Names, NoSourceError, Source, Tensors, linear, norm

_MQMHA = "pool.n_query.{query}.heads_att_trans.{head}.att_{layer}.{kind}"


def infer_pooling(tensors: Tensors, num_statistics: int, num_channels: int) -> Part:
    """The pooling that the tensors imply.

    Args:
      tensors: of the network.
      num_statistics: inputs of the layer behind the pooling.
      num_channels: outputs of the encoder, D.

    Raises:
      UserError: the sizes fit no known pooling.
    """
    if queries := tensors.count(r"pool\.n_query\.(\d+)\."):
        return _infer_mqmha(tensors, queries)
    if "pool.linear1.weight" in tensors:  # attentive statistics: a weight for each channel
        bottleneck, num_inputs, _ = tensors.shape("pool.linear1.weight", rank=3)
        context = num_inputs == 3 * num_channels
        return part("ccasp", bottleneck=bottleneck, context=context, unbiased_context=context)
    if num_statistics not in (num_channels, 2 * num_channels):
        raise UserError(
            f"The layer behind the pooling takes {num_statistics} values, {num_statistics / num_channels:g} for each "
            f"of the encoder's {num_channels} channels; TAP gives 1 per channel and TSTP 2. Its tensor is damaged, or "
            "the network has another number of mel bands (--num-mel-bins)."
        )
    return part("tap" if num_statistics == num_channels else "tstp")


def _infer_mqmha(tensors: Tensors, queries: int) -> Part:
    layers = tensors.count(r"pool\.n_query\.0\.heads_att_trans\.0\.att_(\d+)\.")
    last = _MQMHA.format(query=0, head=0, layer=layers - 1, kind="weight")
    num_scores, width, _ = tensors.shape(last, rank=3)
    return part(
        "mqmha",
        heads=tensors.count(r"pool\.n_query\.0\.heads_att_trans\.(\d+)\."),
        queries=queries,
        layers=layers,
        channel_wise=num_scores > 1,
        **({"bottleneck": width} if layers == 2 else {}),
    )


def pooling_source(path: tuple[str, ...], config: ModelConfig) -> Source:
    """Where a variable of the pooling lies; ``path`` is e.g. ``("hidden", "kernel")``."""
    layer, leaf = path
    if layer not in ("hidden", "score"):
        raise NoSourceError(("pooling", *path))
    if config.pooling.name == "ccasp":
        return single_head("pool.linear1" if layer == "hidden" else "pool.linear2", leaf)
    index = 0 if layer == "hidden" else config.pooling.options["layers"] - 1
    kind = "bias" if leaf == "bias" else "weight"
    names = _mqmha_names(config.pooling, index, kind)
    return Source(names) if leaf == "bias" else Source(names, (1, 0), unit_axes=1)


def pooling_constants(config: ModelConfig, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The last biases of the scorers, which the softmax cancels."""
    if SCORE not in shapes:
        return {}
    if config.pooling.name == "ccasp":
        return score_biases(shapes, "pool.linear2.bias")
    rows = _mqmha_names(config.pooling, config.pooling.options["layers"] - 1, "bias")
    return score_biases(shapes, *(str(name) for row in rows for name in row))


def _mqmha_names(pooling: Part, layer: int, kind: str) -> list[list[Names]]:
    """A name for each query and head: the tensors stack to ``[Q,H,...]``."""
    return [
        [_MQMHA.format(query=q, head=h, layer=layer, kind=kind) for h in range(pooling.options["heads"])]
        for q in range(pooling.options["queries"])
    ]


def embedding_layers(tensors: Tensors) -> dict[str, Any]:
    """Options of the model: one embedding layer (``seg_1``) or two (``seg_1``, ReLU, normalisation, ``seg_2``)."""
    layers = 2 if "seg_2.weight" in tensors else 1
    return {"embedding_dim": tensors.shape(f"seg_{layers}.weight", rank=2)[0], "embedding_layers": layers}


def embedding_source(path: tuple[str, ...], config: ModelConfig) -> Source:
    """Where a variable of the embedding layers lies."""
    match path:
        case ("embedding", leaf):
            return linear(f"seg_{config.embedding_layers}", leaf)
        case ("hidden", leaf):
            return linear("seg_1", leaf)
        case ("hidden_norm", leaf):
            return norm("seg_bn_1", leaf)
    raise NoSourceError(path)
