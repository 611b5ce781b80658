"""Describes an experiment without training it: options, parameters, shapes, FLOPs."""

from collections.abc import Iterator, Mapping
from inspect import Parameter
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from mqmha_jax.config import Config, PairTerm, Part
from mqmha_jax.config_io import options
from mqmha_jax.data.joined_shards import find_training_shards
from mqmha_jax.features.fbank import num_frames
from mqmha_jax.flops import count_flops
from mqmha_jax.losses import MARGINS, PAIRS, build_loss, check_loss
from mqmha_jax.models.encoders import ENCODERS
from mqmha_jax.models.pooling import POOLINGS
from mqmha_jax.models.registry import PartOption, list_options
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.parallel import PROTOTYPES
from mqmha_jax.text_table import align_table


def describe(config: Config, num_speakers: int | None = None) -> str:
    """Formats the text of ``mqmha show``.

    Args:
      config: configuration of the experiment.
      num_speakers: number of classes of the head. None takes that of the training shards; without shards the head is
        left out.

    Returns:
      Tables of options, parameters and shapes, and the network's FLOPs for one training crop and for ten seconds.

    Raises:
      UserError: an encoder, a pooling or a loss is unknown, or has an unknown option or a value that is not valid.
    """
    if num_speakers is None and (shards := find_training_shards(config.data)) is not None:
        num_speakers = len(shards.speakers)
    net = build_speaker_net(config.model)
    frames = config.data.crop_frames
    fbank, mask = _inputs(config, frames)
    variables = jax.eval_shape(
        lambda: net.init(jax.random.key(0), jnp.zeros(fbank.shape), jnp.ones(mask.shape, bool), train=False)
    )
    params = {"net": variables["params"]}
    if num_speakers is None:
        check_loss(config.loss)
    else:
        loss = build_loss(config.loss, num_speakers=num_speakers, embedding_dim=config.model.embedding_dim)
        head = jax.eval_shape(loss.init, jax.random.key(0))
        # Only rows of real speakers are parameters; the others pad the classes in memory.
        of_speakers = (num_speakers, *head[PROTOTYPES].shape[1:])
        params["head"] = {**head, PROTOTYPES: jax.ShapeDtypeStruct(of_speakers, head[PROTOTYPES].dtype)}
    ten_seconds = num_frames(10 * config.fbank.sample_rate_hz, config.fbank)
    return "\n\n".join(
        (
            _options_table(config),
            _parameter_table(params, num_speakers),
            _shape_table(net, variables, fbank, mask),
            f"forward pass: {_gigaflops(net, variables, config, frames):.3f} GFLOP for a crop of {frames} frames, "
            f"{_gigaflops(net, variables, config, ten_seconds):.3f} GFLOP for 10 s of audio ({ten_seconds} frames)",
        )
    )


def _inputs(config: Config, frames: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    shape = (1, frames)
    return (
        jax.ShapeDtypeStruct((*shape, config.fbank.num_features), jnp.float32),
        jax.ShapeDtypeStruct(shape, jnp.bool_),
    )


def _options_table(config: Config) -> str:
    """All options; those of the encoder, the pooling and the loss follow the row that names it."""
    parts = _list_parts(config)
    rows = [("option", "value", "default", "meaning")]
    for item in options():
        value: Any = config
        for name in item.name.split("."):
            value = getattr(value, name)
        if isinstance(value, Part):
            value = value.name
        default = "" if value == item.default else str(item.default)
        if item.name == "loss.options":
            value = default = ""  # they follow, one in each row
        elif item.name == "loss.pairs":
            value = ", ".join(map(_format_pair, value))
        rows.append((item.name, str(value), default, f"{item.help} ({item.type})"))
        part, of_part = parts.get(item.name, ("", {}))
        for name, (value, of_default) in of_part.items():
            changed = str(value) != str(of_default) and of_default is not Parameter.empty
            rows.append((f"{item.name}.{name}", str(value), str(of_default) if changed else "", f"option of {part}"))
    return align_table(rows)


def _list_parts(config: Config) -> dict[str, tuple[str, dict[str, PartOption]]]:
    """The name and the options of each part, by the option of the configuration that they are written under."""
    model, loss = config.model, config.loss
    return {
        "model.encoder": (model.encoder.name, list_options("encoder", ENCODERS, model.encoder, fixed=["compute"])),
        "model.pooling": (
            model.pooling.name,
            list_options("pooling", POOLINGS, model.pooling, fixed=["batch_norm_groups"]),
        ),
        "loss.options": (loss.name, list_options("loss", MARGINS, Part(name=loss.name, options=loss.options))),
    }


def _format_pair(term: PairTerm) -> str:
    """``ge2e(weight=1.0, scale=10.0, offset=-5.0)``."""
    of_term = list_options("loss over pairs", PAIRS, Part(name=term.name, options=term.options))
    given = [f"{name}={option.value}" for name, option in of_term.items()]
    return f"{term.name}({', '.join([f'weight={term.weight}', *given])})"


def _parameter_table(params: PyTree, num_speakers: int | None) -> str:
    rows = [("parameters", "arrays", "count")]
    groups: dict[str, list[int]] = {}
    for path, size in _sizes(params):
        groups.setdefault("/".join(path.split("/")[:3]), []).append(size)
    rows += [(name, str(len(sizes)), f"{sum(sizes):,}") for name, sizes in groups.items()]
    total = sum(sum(sizes) for sizes in groups.values())
    rows.append(("total", str(sum(map(len, groups.values()))), f"{total:,}"))
    if num_speakers is None:
        rows.append(("(without the head; give --speakers N)", "", ""))
    return align_table(rows)


def _shape_table(net: Any, variables: PyTree, fbank: Any, mask: Any) -> str:
    def stages(variables: PyTree, fbank: Any, mask: Any) -> Mapping[str, Any]:
        def run(module: Any, fbank: Any, mask: Any) -> Mapping[str, Any]:
            frames, frame_mask = module.encoder(fbank, mask, train=False)
            return {"frames [B, t, D]": frames, "pooled [B, S]": module.pooling(frames, frame_mask, train=False)}

        return net.apply(variables, fbank, mask, method=run)

    shapes = {"fbank [B, T, F]": fbank, **jax.eval_shape(stages, variables, fbank, mask)}
    embedding = jax.eval_shape(lambda v, x, m: net.apply(v, x, m, train=False), variables, fbank, mask)
    shapes["embedding [B, E]"] = embedding
    return align_table([("output", "shape"), *((name, str(list(value.shape))) for name, value in shapes.items())])


def _gigaflops(net: Any, variables: PyTree, config: Config, frames: int) -> float:
    return count_flops(lambda v, x, m: net.apply(v, x, m, train=False), variables, *_inputs(config, frames)) / 1e9


def _sizes(tree: PyTree) -> Iterator[tuple[str, int]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield "/".join(str(key.key) for key in path), leaf.size
