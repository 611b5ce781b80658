"""Reads the features and the pooling of a network from a WeSpeaker ``config.yaml``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mqmha_jax.errors import UserError

_MOST_BYTES = 1 << 20  # such files have a few kilobytes

# WeSpeaker's names -> ours. Its window is always a Hamming window; earlier exports of ours wrote window_type.
_FBANK = {
    "num_mel_bins": "num_mel_bins",
    "frame_length": "frame_length_ms",
    "frame_shift": "frame_shift_ms",
    "window_type": "window",
}
# What WeSpeaker has no names for stands in a section of ours, because it passes all of fbank_args to its own function.
OUR_SECTION = "mqmha_fbank"
OUR_OPTIONS = ("window", "low_hz", "high_hz", "preemphasis", "snip_edges", "dither")
# WeSpeaker's names of the poolings that an import can give -> ours. ASP is the one of its SimAM-ResNets.
_POOLINGS = {"TAP": "tap", "TSTP": "tstp", "ASTP": "ccasp", "ASP": "asp", "MQMHASTP": "mqmha"}
_OTHERWISE = "If this file does not belong to the checkpoint, correct it or move it away."


class WeSpeakerConfig(NamedTuple):
    """What a ``config.yaml`` says about a network.

    Attributes:
      fbank: the options of ``FbankSpec`` that it sets.
      pooling: WeSpeaker's name of the pooling, e.g. ``"TSTP"``; None: the file does not tell.
    """

    fbank: dict[str, Any]
    pooling: str | None


def read_wespeaker_config(path: Path) -> WeSpeakerConfig:
    """Reads the features and the pooling that the file sets. What it does not set counts as WeSpeaker's default.

    Args:
      path: a ``config.yaml`` that WeSpeaker or ``mqmha export`` wrote next to a checkpoint.

    Raises:
      UserError: the file is not YAML, asks for objects (nothing is executed), holds no mapping, gives one of these
        options something other than a number or a word, or describes features or a pooling that no network here has.
    """
    content = _read_yaml(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} must hold a mapping of options, as WeSpeaker writes it.")
    dataset = _mapping(content, "dataset_args")
    _require_our_features(path, dataset)
    arguments = _mapping(dataset, "fbank_args") or _mapping(content, "feature_args")
    found = {ours: _scalar(path, arguments, theirs) for theirs, ours in _FBANK.items() if theirs in arguments}
    model = _mapping(content, "model_args")
    if "feat_dim" in model:
        found.setdefault("num_mel_bins", _scalar(path, model, "feat_dim"))
    if "resample_rate" in dataset:
        found["sample_rate_hz"] = _scalar(path, dataset, "resample_rate")
    own = _mapping(content, OUR_SECTION)
    found |= {name: _scalar(path, own, name) for name in OUR_OPTIONS if name in own}
    return WeSpeakerConfig(found, _read_pooling(path, model))


def require_pooling(path: Path, config: WeSpeakerConfig, pooling: str) -> None:
    """Checks the pooling that the tensors imply against the configuration.

    Args:
      path: of the configuration, for the message.
      config: what it says.
      pooling: our name of the pooling.

    Raises:
      UserError: the configuration names another pooling.
    """
    if config.pooling is None or _POOLINGS[config.pooling] == pooling:
        return
    implied = next((theirs for theirs, ours in _POOLINGS.items() if ours == pooling), pooling)
    raise UserError(
        f"{path}: model_args.pooling_func is {config.pooling}, but the tensors beside it are those of a network with "
        f"{implied}. {_OTHERWISE}"
    )


def _read_pooling(path: Path, model: Mapping[Any, Any]) -> str | None:
    if "pooling_func" not in model:
        return None
    name = str(_scalar(path, model, "pooling_func"))
    if name not in _POOLINGS:
        raise UserError(
            f"{path}: model_args.pooling_func is {name}, a pooling that an import cannot give; it can give "
            f"{', '.join(_POOLINGS)}. The tensors alone could be taken for another network. {_OTHERWISE}"
        )
    return name


def _require_our_features(path: Path, dataset: Mapping[Any, Any]) -> None:
    """Refuses features other than the filterbank minus its mean over the utterance, which every network here gets."""
    if "frontend" in dataset and (frontend := _scalar(path, dataset, "frontend")) != "fbank":
        raise UserError(
            f"{path}: dataset_args.frontend is {frontend}, but every network here hears a filterbank (fbank). "
            f"{_OTHERWISE}"
        )
    normalisation = _mapping(dataset, "cmvn_args")
    # WeSpeaker asks only whether a value counts as true.
    for name, section, needed in (
        ("cmvn", dataset, True),
        ("cmvn_args.norm_mean", normalisation, True),
        ("cmvn_args.norm_var", normalisation, False),
    ):
        key = name.rpartition(".")[2]
        if key in section and bool(section[key]) is not needed:
            raise UserError(
                f"{path}: dataset_args.{name} is {str(not needed).lower()}, but every network here hears features "
                f"minus their mean over the utterance, not divided by their deviation ({name} must be "
                f"{str(needed).lower()}). {_OTHERWISE}"
            )


def _read_yaml(path: Path) -> Any:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} has {path.stat().st_size} bytes, more than a configuration has. Move it away.")
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UserError:
        raise
    except yaml.constructor.ConstructorError as error:
        raise UserError(
            f"{path} asks for an object, which a configuration does not need ({error.problem}); nothing was executed. "
            "Remove that tag, or move the file away and give --num-mel-bins and --window."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as YAML ({' '.join(str(error).split())}).") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # of PyYAML's constructors
        raise UserError(
            f"{path} holds a value that is not what it looks like or is tagged as, such as a date in month 13 "
            f"({type(error).__name__}: {error}). Correct it, or move the file away and give --num-mel-bins and "
            "--window."
        ) from None


class _Loader(yaml.SafeLoader):
    """Plain data without merged mappings: each of a few merges can repeat the one before, until the memory is full."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: mappings merged by '<<' are not read; copy them")
        super().flatten_mapping(node)


def _mapping(content: Mapping[Any, Any], name: str) -> Mapping[Any, Any]:
    value = content.get(name)
    return value if isinstance(value, Mapping) else {}


def _scalar(path: Path, content: Mapping[Any, Any], name: str) -> str | int | float:
    """One number or word. What is nested could be longer than the file by any factor: YAML can repeat by reference."""
    value = content[name]
    if isinstance(value, str | float) or (isinstance(value, int) and value.bit_length() < 64):
        return value
    raise UserError(f"{path}: {name} must be one number or word; correct it, or move the file away.")
