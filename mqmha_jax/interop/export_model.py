"""Writes a network of ours as the tensors of another toolkit: the inverse of an import."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from mqmha_jax.config import ModelConfig, Part
from mqmha_jax.errors import UserError
from mqmha_jax.interop.families import FAMILIES
from mqmha_jax.interop.family import Family
from mqmha_jax.interop.import_model import import_model
from mqmha_jax.interop.tensors import NoSourceError
from mqmha_jax.models.registry import options_of
from mqmha_jax.models.speaker_net import SpeakerNet, build_speaker_net

# Toolkits differ in the constants that keep a square root away from zero, and so do WeSpeaker's own versions (1e-8,
# 1e-7). A network that differs in these alone is exported if its embeddings move by less than the tolerance, relative
# to their length: twice as much is the most that a cosine score can change.
_GUARDS = {"pooling.variance_offset"}
_OF_INITIAL_VALUES = {"pooling.scorer_scale"}  # does not matter once there are parameters
_TOLERANCE = 1e-3
_COMPARED = (4, 200)  # utterances, and random frames of each


class ExportedModel(NamedTuple):
    """A network in another toolkit's terms.

    Attributes:
      family: its name in ``FAMILIES``.
      tensors: foreign names -> float32 arrays.
      config: of the network that the toolkit computes, with every option of its encoder and pooling.
      remarks: what the toolkit computes differently, and how much that changes.
    """

    family: str
    tensors: dict[str, np.ndarray]
    config: ModelConfig
    remarks: tuple[str, ...] = ()


def export_model(
    config: ModelConfig, variables: Mapping[str, Any], *, num_features: int, toolkit: str = "wespeaker"
) -> ExportedModel:
    """Converts a network to the first family of a toolkit that has it.

    It imports the tensors again and requires the same network. Only the constant below the square root of a pooling may
    differ, if that changes no embedding of random frames by more than a thousandth of its length.

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
        theirs = _build_alike(found, config)
        found = _fill_in_options(found, build_speaker_net(found))
        if not (changed := _differences(net, theirs)):
            return ExportedModel(name, tensors, found)
        lines = [f"{option}: {here} here, {there} there" for option, (here, there) in changed.items()]
        if changed.keys() <= _GUARDS:
            largest = _compare_embeddings(net, theirs, variables, num_features)
            effect = f"this changes embeddings of random frames by up to {largest:.1e} of their length"
            if largest <= _TOLERANCE:
                return ExportedModel(name, tensors, found, (f"{'; '.join(lines)}; {effect}.",))
            lines.append(effect)
        reasons.append(f"{family.title}: {'; '.join(lines)}")
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
    return Part(name=name, options=options_of(module))


def _build_alike(found: ModelConfig, config: ModelConfig) -> SpeakerNet:
    """Builds the toolkit's network, computed in the same way as ours."""
    how = {name: getattr(config, name) for name in ("compute_dtype", "rematerialize", "batch_norm_groups")}
    return build_speaker_net(dataclasses.replace(found, **how))


def _differences(ours: SpeakerNet, theirs: SpeakerNet) -> dict[str, tuple[Any, Any]]:
    """Finds how the toolkit's network differs: ``{"pooling.deviation": (False, True)}``, here and there."""
    a = {"": ours, "encoder.": ours.encoder, "pooling.": ours.pooling}
    b = {"": theirs, "encoder.": theirs.encoder, "pooling.": theirs.pooling}
    found: dict[str, tuple[Any, Any]] = {}
    for prefix in a:
        if type(a[prefix]) is not type(b[prefix]):
            found[prefix.removesuffix(".")] = type(a[prefix]).__name__, type(b[prefix]).__name__
            continue
        one, other = options_of(a[prefix]), options_of(b[prefix])
        found |= {
            f"{prefix}{name}": (value, other[name])
            for name, value in one.items()
            if name not in ("encoder", "pooling") and prefix + name not in _OF_INITIAL_VALUES and value != other[name]
        }
    return found


def _compare_embeddings(ours: SpeakerNet, theirs: SpeakerNet, variables: Mapping[str, Any], num_features: int) -> float:
    """Returns the largest relative difference of an embedding of random frames."""
    frames = jax.random.normal(jax.random.key(0), (*_COMPARED, num_features))

    @jax.jit  # one program, which computes the equal encoders once
    def embed_with_both(variables: Mapping[str, Any]) -> list[jax.Array]:
        mask = jnp.ones(_COMPARED, bool)
        return [net.apply(variables, frames, mask, train=False) for net in (ours, theirs)]

    here, there = (np.asarray(embedding) for embedding in embed_with_both(variables))
    return float((np.linalg.norm(here - there, axis=1) / np.linalg.norm(here, axis=1)).max())
