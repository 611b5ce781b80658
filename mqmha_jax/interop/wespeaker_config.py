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


def read_wespeaker_config(path: Path) -> dict[str, Any]:
    """Reads the options of ``FbankSpec`` that the file sets.

    Args:
      path: a ``config.yaml`` that WeSpeaker wrote next to a checkpoint.

    Raises:
      UserError: the file is not YAML, asks for objects (nothing is executed), or holds no mapping.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} has {path.stat().st_size} bytes, more than a configuration has. Move it away.")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.constructor.ConstructorError as error:
        raise UserError(
            f"{path} asks for an object, which a configuration does not need ({error.problem}); nothing was executed. "
            "Remove that tag, or move the file away and give --num-mel-bins and --window."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path} must hold a mapping of options, as WeSpeaker writes it.")
    dataset = _mapping(content, "dataset_args")
    arguments = _mapping(dataset, "fbank_args") or _mapping(content, "feature_args")
    found = {ours: arguments[theirs] for theirs, ours in _FBANK.items() if theirs in arguments}
    if "feat_dim" in (model := _mapping(content, "model_args")):
        found.setdefault("num_mel_bins", model["feat_dim"])
    if "resample_rate" in dataset:
        found["sample_rate_hz"] = dataset["resample_rate"]
    return found


def _mapping(content: Mapping[Any, Any], name: str) -> Mapping[Any, Any]:
    value = content.get(name)
    return value if isinstance(value, Mapping) else {}
