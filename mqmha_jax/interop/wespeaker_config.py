"""Reads the features of a network from a WeSpeaker ``config.yaml``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mqmha_jax.errors import UserError

_MOST_BYTES = 1 << 20  # such files have a few kilobytes

# WeSpeaker's names -> ours. Its window is a Hamming window unless the file says otherwise.
_FBANK = {
    "num_mel_bins": "num_mel_bins",
    "frame_length": "frame_length_ms",
    "frame_shift": "frame_shift_ms",
    "window_type": "window",
}
# What WeSpeaker has no names for stands in a section of ours, because it passes all of fbank_args to its own function.
OUR_SECTION = "mqmha_fbank"
OUR_OPTIONS = ("low_hz", "high_hz", "preemphasis", "snip_edges", "dither")


def read_wespeaker_config(path: Path) -> dict[str, Any]:
    """Reads the options of ``FbankSpec`` that the file sets.

    Args:
      path: a ``config.yaml`` that WeSpeaker or ``mqmha export`` wrote next to a checkpoint.

    Raises:
      UserError: the file is not YAML, asks for objects (nothing is executed), holds no mapping, or gives one of these
        options something other than a number or a word.
    """
    content = _read_yaml(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} must hold a mapping of options, as WeSpeaker writes it.")
    dataset = _mapping(content, "dataset_args")
    arguments = _mapping(dataset, "fbank_args") or _mapping(content, "feature_args")
    found = {ours: _scalar(path, arguments, theirs) for theirs, ours in _FBANK.items() if theirs in arguments}
    if "feat_dim" in (model := _mapping(content, "model_args")):
        found.setdefault("num_mel_bins", _scalar(path, model, "feat_dim"))
    if "resample_rate" in dataset:
        found["sample_rate_hz"] = _scalar(path, dataset, "resample_rate")
    own = _mapping(content, OUR_SECTION)
    return found | {name: _scalar(path, own, name) for name in OUR_OPTIONS if name in own}


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
