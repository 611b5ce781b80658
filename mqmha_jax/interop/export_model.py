"""Writes a network of ours as the tensors of another toolkit: the inverse of an import."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn
from flax import traverse_util

from mqmha_jax.config import ModelConfig, Part
from mqmha_jax.errors import UserError
from mqmha_jax.interop.families import FAMILIES
from mqmha_jax.interop.family import Family
from mqmha_jax.interop.import_model import import_model
from mqmha_jax.interop.tensors import NoSourceError
from mqmha_jax.models.speaker_net import SpeakerNet, build_speaker_net

_NOT_OPTIONS = {"compute", "parent", "name"}


class ExportedModel(NamedTuple):
    """A network in another toolkit's terms.

    Attributes:
      family: its name in ``FAMILIES``.
      tensors: foreign names -> float32 arrays.
    """

    family: str
    tensors: dict[str, np.ndarray]


def export_model(
    config: ModelConfig, variables: Mapping[str, Any], *, num_features: int, toolkit: str = "wespeaker"
) -> ExportedModel:
    """Converts a network to the first family of a toolkit that has it exactly.

    It imports the tensors again and requires the same network.

    Args:
      config: of the network.
      variables: ``params`` and ``batch_stats``.
      num_features: values per frame, F.
      toolkit: prefix of its families' names.

    Raises:
      UserError: no family of the toolkit has such a network; the message says what differs.
    """
    net = build_speaker_net(config)
    candidates = {
        name: family
        for name, family in FAMILIES.items()
        if name.startswith(f"{toolkit}_") and isinstance(net.encoder, family.encoder)
    }
    if not candidates:
        known = ", ".join(name for name in FAMILIES if name.startswith(f"{toolkit}_"))
        raise UserError(
            f"{toolkit} has no network with the encoder {config.encoder.name!r}; its families here are {known}. Use "
            "--format safetensors."
        )
    reasons = []
    for name, family in candidates.items():
        try:
            tensors = _write(family, _fill_in_options(config, net), variables)
            found = import_model(tensors, family=name, num_features=num_features).config
        except (NoSourceError, UserError) as error:
            reasons.append(f"{family.title}: {error}")
            continue
        if not (changed := _differences(net, found, config)):
            return ExportedModel(name, tensors)
        reasons.append(f"{family.title}: {'; '.join(changed)}")
    raise UserError(f"No network of {toolkit} is exactly this one ({' | '.join(reasons)}). Use --format safetensors.")


def _write(family: Family, config: ModelConfig, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    flat = {path[1:]: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(dict(variables)).items()}
    tensors: dict[str, np.ndarray] = {}
    for path, value in flat.items():
        tensors |= family.source(path, config).write(value)
    constants = family.constants(config, {path: value.shape for path, value in flat.items()})
    return tensors | {name: np.zeros(shape, np.float32) for name, shape in constants.items()}


def _fill_in_options(config: ModelConfig, net: SpeakerNet) -> ModelConfig:
    """Fills in every option of encoder and pooling, because families read them all."""
    return dataclasses.replace(
        config, encoder=_part(config.encoder.name, net.encoder), pooling=_part(config.pooling.name, net.pooling)
    )


def _part(name: str, module: nn.Module) -> Part:
    return Part(name=name, options=_options(module))


def _options(module: nn.Module) -> dict[str, Any]:
    return {
        item.name: getattr(module, item.name) for item in dataclasses.fields(module) if item.name not in _NOT_OPTIONS
    }


def _differences(ours: SpeakerNet, found: ModelConfig, config: ModelConfig) -> list[str]:
    """Lists how the toolkit's network differs: ``pooling.deviation: False here, True there``."""
    how = {name: getattr(config, name) for name in ("compute_dtype", "rematerialize", "batch_norm_groups")}
    theirs = build_speaker_net(dataclasses.replace(found, **how))
    a = {"": ours, "encoder.": ours.encoder, "pooling.": ours.pooling}
    b = {"": theirs, "encoder.": theirs.encoder, "pooling.": theirs.pooling}
    lines = []
    for prefix in a:
        if type(a[prefix]) is not type(b[prefix]):
            lines.append(f"{prefix}{type(a[prefix]).__name__} here, {type(b[prefix]).__name__} there")
            continue
        one, other = _options(a[prefix]), _options(b[prefix])
        lines += [
            f"{prefix}{name}: {value} here, {other[name]} there"
            for name, value in one.items()
            if name not in ("encoder", "pooling") and value != other[name]
        ]
    return lines
