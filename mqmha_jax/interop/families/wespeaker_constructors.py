"""What WeSpeaker's constructors share: the arguments of most, and what no argument changes.

WeSpeaker builds a network as ``get_speaker_model(model)(**model_args)`` from the two keys of a ``config.yaml``.
"""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from mqmha_jax.config import ModelConfig, Part, part
from mqmha_jax.interop.family import NoConstructorError
from mqmha_jax.models.encoders import ENCODERS
from mqmha_jax.models.pooling import POOLINGS
from mqmha_jax.models.registry import build_part, options_of

_BAND_STRIDE = 8  # of the encoders over time and frequency


def shared_arguments(config: ModelConfig, num_features: int, *, context: bool = False) -> dict[str, Any]:
    """The arguments of all constructors but those of SimAM-ResNets.

    Args:
      config: of the network, with every option of its encoder and pooling.
      num_features: values per frame, F.
      context: the constructor gives ASTP the context of the utterance.

    Raises:
      NoConstructorError: no argument of WeSpeaker gives this pooling.
    """
    return {
        "feat_dim": num_features,
        "embed_dim": config.embedding_dim,
        "pooling_func": _name_pooling(config.pooling, context),
    }


def find_model(models: Mapping[str, Part], config: ModelConfig) -> str | None:
    """The name of the model whose encoder has the options of ``config``; None: there is none."""
    return next((name for name, encoder in models.items() if not encoder_differences(encoder, config)), None)


def require_model(models: Mapping[str, Part], config: ModelConfig) -> str:
    """The name of the model whose encoder has the options of ``config``.

    Raises:
      NoConstructorError: there is none.
    """
    if name := find_model(models, config):
        return name
    raise NoConstructorError(f"its models {', '.join(models)} all have other widths or numbers of blocks")


def require_encoder(model: str, encoder: Part, config: ModelConfig) -> None:
    """Checks the options of an encoder that no argument changes.

    Raises:
      NoConstructorError: they differ from those of ``config``.
    """
    if differences := encoder_differences(encoder, config):
        raise NoConstructorError(f"its {model} has other sizes ({'; '.join(differences)})")


def encoder_differences(encoder: Part, config: ModelConfig) -> list[str]:
    """Lists how the encoder of ``config`` differs from ``encoder``: ``width: 4 here, 32 there``."""
    return _differences(build_part("encoder", ENCODERS, encoder), config.encoder)


def require_pooling(name: str, pooling: Part, config: ModelConfig) -> None:
    """Checks the options of a pooling, which no argument changes.

    Raises:
      NoConstructorError: they differ from those of ``config``.
    """
    if differences := _differences(build_part("pooling", POOLINGS, pooling), config.pooling):
        raise NoConstructorError(f"its {name} has other sizes ({'; '.join(differences)})")


def require_whole_bands(num_features: int) -> None:
    """Checks that the encoder, which rounds the number of bands up, gives as many statistics as WeSpeaker expects.

    Raises:
      NoConstructorError: WeSpeaker rounds it down.
    """
    if num_features % _BAND_STRIDE:
        raise NoConstructorError(
            f"it gives the layer behind the pooling too few inputs unless the number of mel bands is a multiple of "
            f"{_BAND_STRIDE}, and this network has {num_features}"
        )


def has_context(config: ModelConfig) -> bool:
    """Whether the pooling is ASTP with the context of the utterance."""
    return config.pooling.name == "ccasp" and bool(config.pooling.options["context"])


def _name_pooling(pooling: Part, context: bool) -> str:
    theirs = {
        "TAP": part("tap"),
        "TSTP": part("tstp"),
        "ASTP": part("ccasp", context=context, unbiased_context=context),
        "MQMHASTP": part("mqmha", heads=8, queries=2, layers=2, bottleneck=64, channel_wise=True),
    }
    (name,) = (name for name, candidate in theirs.items() if candidate.name == pooling.name)
    if differences := _differences(build_part("pooling", POOLINGS, theirs[name]), pooling):
        raise NoConstructorError(f"no argument changes its {name} ({'; '.join(differences)})")
    return name


def _differences(theirs: nn.Module, ours: Part) -> list[str]:
    return [
        f"{name}: {ours.options[name]} here, {value} there"
        for name, value in options_of(theirs).items()
        if ours.options[name] != value
    ]
