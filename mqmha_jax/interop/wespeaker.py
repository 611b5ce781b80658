"""WeSpeaker's ResNets as ours: a state dictionary becomes a model configuration and its variables."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from mqmha_jax.config import ModelConfig, Part, part
from mqmha_jax.errors import UserError
from mqmha_jax.models.speaker_net import build_speaker_net

_NUM_STAGES = 4
_STRIDE = 8  # of all stages together, over time and frequency
_NORM_NAMES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_SCORER = "pool.n_query.{query}.heads_att_trans.{head}.att_{layer}.{kind}"
_NOT_OF_THE_NETWORK = re.compile(r"projection\.|.*\.num_batches_tracked$")  # the training head; counters


class ImportedModel(NamedTuple):
    """A foreign model in our terms: ``build_speaker_net(config).apply(variables, fbank, mask, train=False)``.

    Attributes:
      config: the model, as the shapes of its tensors tell it.
      variables: ``{"params": ..., "batch_stats": ...}``, float32.
    """

    config: ModelConfig
    variables: dict[str, Any]


def import_wespeaker_resnet(state: Mapping[str, np.ndarray], *, num_features: int = 80) -> ImportedModel:
    """Converts a WeSpeaker ResNet with TAP, TSTP or MQMHASTP pooling and one embedding layer.

    Args:
      state: WeSpeaker's names -> arrays, as :func:`mqmha_jax.interop.read_torch_file` gives them.
      num_features: values per frame that the model was trained on, F; the tensors do not tell.

    Returns:
      The configuration and the variables. The training head (``projection.*``) is left out.

    Raises:
      UserError: naming the tensors that are missing, left over, or of another shape than the rest implies.
    """
    tensors = {name: value for name, value in state.items() if not _NOT_OF_THE_NETWORK.match(name)}
    config = _infer_config(tensors, num_features)
    net = build_speaker_net(config)
    fbank = jax.ShapeDtypeStruct((1, _STRIDE, num_features), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, _STRIDE), bool)
    expected = jax.eval_shape(lambda fbank, mask: net.init(jax.random.key(0), fbank, mask, train=False), fbank, mask)
    variables = {}
    for path, leaf in traverse_util.flatten_dict(expected).items():
        value = _convert(path[1:], tensors, config.pooling)
        if value.shape != leaf.shape:
            raise UserError(
                f"The tensor for {'/'.join(path)} has shape {value.shape} in our order of axes, but the other tensors "
                f"and num_features = {num_features} imply {leaf.shape}."
            )
        variables[path] = jnp.asarray(value, leaf.dtype)
    if tensors:
        raise UserError(f"These tensors have no place in {_describe(config)}: {', '.join(sorted(tensors))}.")
    return ImportedModel(config, traverse_util.unflatten_dict(variables))


def _infer_config(tensors: Mapping[str, np.ndarray], num_features: int) -> ModelConfig:
    width = _look(tensors, "conv1.weight").shape[0]
    embedding_dim, num_statistics = _look(tensors, "seg_1.weight").shape
    bottleneck = "layer1.0.conv3.weight" in tensors
    stage_sizes = [_count(tensors, rf"layer{stage}\.(\d+)\.") for stage in range(1, _NUM_STAGES + 1)]
    num_channels = width * 2 ** (_NUM_STAGES - 1) * (4 if bottleneck else 1) * -(-num_features // _STRIDE)
    return ModelConfig(
        encoder=part("resnet50" if bottleneck else "resnet34", stage_sizes=stage_sizes, width=width),
        pooling=_infer_pooling(tensors, num_statistics / num_channels),
        embedding_dim=embedding_dim,
    )


def _infer_pooling(tensors: Mapping[str, np.ndarray], statistics_per_channel: float) -> Part:
    if queries := _count(tensors, r"pool\.n_query\.(\d+)\."):
        layers = _count(tensors, r"pool\.n_query\.0\.heads_att_trans\.0\.att_(\d+)\.")
        scores = _look(tensors, _SCORER.format(query=0, head=0, layer=layers - 1, kind="weight"))
        options = {"bottleneck": scores.shape[1]} if layers == 2 else {}
        return part(
            "mqmha",
            heads=_count(tensors, r"pool\.n_query\.0\.heads_att_trans\.(\d+)\."),
            queries=queries,
            layers=layers,
            channel_wise=scores.shape[0] > 1,
            **options,
        )
    if statistics_per_channel not in (1, 2):
        raise UserError(
            f"The embedding layer seg_1 takes {statistics_per_channel:g} statistics per channel of the encoder; TAP "
            "gives 1 and TSTP 2. Check num_features."
        )
    return part("tap" if statistics_per_channel == 1 else "tstp")


def _convert(path: tuple[str, ...], tensors: dict[str, np.ndarray], pooling: Part) -> np.ndarray:
    """Takes what becomes the leaf at ``path`` out of ``tensors``, in our order of axes."""
    match path:
        case ("embedding", "kernel"):
            return _take(tensors, "seg_1.weight").T
        case ("embedding", "bias"):
            return _take(tensors, "seg_1.bias")
        case ("pooling", layer, leaf):
            return _convert_scorers(tensors, pooling.options, layer, leaf)
        case ("encoder", *modules, "conv", "kernel"):
            # (out, in, frequency, time) -> (time, frequency, in, out)
            return _take(tensors, _layer_name(modules, "conv", "shortcut.0") + ".weight").transpose(3, 2, 1, 0)
        case ("encoder", *modules, "norm", leaf):
            return _take(tensors, f"{_layer_name(modules, 'bn', 'shortcut.1')}.{_NORM_NAMES[leaf]}")
    raise AssertionError(f"no WeSpeaker tensor is known for {'/'.join(path)}")


def _layer_name(modules: list[str], kind: str, shortcut: str) -> str:
    """WeSpeaker's name of ``["stem"]``, ``["stage2_block1", "layer2"]`` or ``["stage2_block1", "shortcut"]``."""
    if modules == ["stem"]:
        return f"{kind}1"
    stage, block = re.findall(r"\d+", modules[0])
    layer = shortcut if modules[1] == "shortcut" else kind + modules[1].removeprefix("layer")
    return f"layer{stage}.{int(block) - 1}.{layer}"


def _convert_scorers(tensors: dict[str, np.ndarray], options: Mapping[str, Any], layer: str, leaf: str) -> np.ndarray:
    """Stacks the 1x1 convolutions of all queries and heads: ``[Q,H,in,out]`` or, for a bias, ``[Q,H,out]``."""
    index = 0 if layer == "hidden" else options["layers"] - 1

    def gather(kind: str) -> np.ndarray:
        names = [
            [_SCORER.format(query=q, head=h, layer=index, kind=kind) for h in range(options["heads"])]
            for q in range(options["queries"])
        ]
        return np.stack([np.stack([_take(tensors, name) for name in row]) for row in names])

    if leaf == "bias":
        return gather("bias")
    if layer == "score":
        gather("bias")  # the same for every frame, so the softmax over frames cancels it
    return gather("weight")[..., 0].swapaxes(-1, -2)


def _count(tensors: Mapping[str, np.ndarray], pattern: str) -> int:
    """How many different numbers stand in the place of the group."""
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})


def _look(tensors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in tensors:
        raise UserError(f"The checkpoint is no WeSpeaker ResNet that we know, or not complete: it lacks {name!r}.")
    return tensors[name]


def _take(tensors: dict[str, np.ndarray], name: str) -> np.ndarray:
    value = _look(tensors, name)
    del tensors[name]
    return value


def _describe(config: ModelConfig) -> str:
    return f"a ResNet of {config.encoder.options['stage_sizes']} blocks with {config.pooling.name!r} pooling"
