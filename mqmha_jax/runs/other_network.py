"""Warns where values are taken from a network that fits in every shape and yet computes something else."""

import logging
from pathlib import Path

from mqmha_jax.config import Config, ModelConfig, Part
from mqmha_jax.config_io import differences
from mqmha_jax.models.registry import options_of
from mqmha_jax.models.speaker_net import build_speaker_net
from mqmha_jax.own_code.contents import hash_code
from mqmha_jax.runs.workdir import read_runnable_config

_LOGGER = logging.getLogger(__name__)


def warn_if_different(config: Config, workdir: Path) -> None:
    """Warns of features, options of the encoder such as dilations, and own code that differ from those of another run.

    The pooling and the layers behind it may have other options on purpose: what does not fit in shape starts at random.

    Args:
      config: of the network that takes the values.
      workdir: of the run whose values it takes.
    """
    theirs = read_runnable_config(workdir)
    changed = [*_encoder_differences(theirs.model, config.model), *_code_differences(theirs.model, config.model)]
    changed += differences(Config(fbank=theirs.fbank), Config(fbank=config.fbank))
    if changed:
        _LOGGER.warning(
            "The values of %s fit in shape, but were trained with other options or code (there -> here): %s. So they "
            "compute something else here. If that is not on purpose, give these options the values of that run.",
            workdir,
            "; ".join(changed),
        )


def _encoder_differences(theirs: ModelConfig, ours: ModelConfig) -> list[str]:
    there, here = (build_speaker_net(config).encoder for config in (theirs, ours))
    if type(there).__name__ != type(here).__name__:  # a class of the user's own is loaded from the run's own copy
        return [f"model.encoder: {type(there).__name__} -> {type(here).__name__}"]
    old, new = options_of(there), options_of(here)
    return [
        f"model.encoder.{name}: {old.get(name)} -> {value}" for name, value in new.items() if old.get(name) != value
    ]


def _code_differences(theirs: ModelConfig, ours: ModelConfig) -> list[str]:
    """Files of the user's own that changed since, or whose neighbours did."""
    parts = {"encoder": (theirs.encoder, ours.encoder), "pooling": (theirs.pooling, ours.pooling)}
    return [
        f"model.{name}: {there.name} -> {here.name}, whose code differs"
        for name, (there, here) in parts.items()
        if _hashes(there) != _hashes(here) and _hashes(there) and _hashes(here)
    ]


def _hashes(part: Part) -> list[str]:
    return [*hash_code({"name": part.name}).values()]
