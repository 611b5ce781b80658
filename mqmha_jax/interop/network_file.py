"""A network of ours as one safetensors file: variables under our names, the configuration in the metadata."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors.numpy import save

from mqmha_jax.atomic import replacing
from mqmha_jax.config import Config
from mqmha_jax.config_io import from_dict, to_dict
from mqmha_jax.errors import UserError
from mqmha_jax.interop.import_model import variable_shapes
from mqmha_jax.interop.safetensors_file import read_safetensors
from mqmha_jax.json_file import parse_json
from mqmha_jax.own_code.names import code_names

_CONFIG, _CHECKSUM = "mqmha_config", "mqmha_sha256"  # of the metadata


def write_network_file(path: Path, config: Config, variables: Mapping[str, Any]) -> None:
    """Writes a network.

    Args:
      path: of the file.
      config: the experiment that trained the network.
      variables: ``params`` and ``batch_stats``; names in the file are ``params/encoder/...``.

    Raises:
      UserError: the file cannot be written.
    """
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    with replacing(path) as temporary:
        tensors = {name: np.asarray(leaf) for name, leaf in flat.items()}
        described = json.dumps(to_dict(config))
        # ``save_file`` would make a file that only its owner can read, whatever the umask says.
        temporary.write_bytes(save(tensors, {_CONFIG: described, _CHECKSUM: _checksum(described, tensors)}))


def read_network_file(path: Path) -> tuple[Config, dict[str, Any]] | None:
    """Reads what :func:`write_network_file` wrote; None for a safetensors file of another kind.

    Raises:
      UserError: the file is missing or damaged, or its tensors are not those of its configuration.
    """
    named, metadata = read_safetensors(path)
    if _CONFIG not in metadata:
        return None
    advice = "Export the network again."
    if metadata.get(_CHECKSUM, _checksum(metadata[_CONFIG], named)) != _checksum(metadata[_CONFIG], named):
        raise UserError(f"{path} differs from what was written: its checksum does not match. {advice}")
    values = parse_json(metadata[_CONFIG], dict, where=f"The configuration in {path}", advice=advice)
    try:
        config = from_dict(values)
        names = code_names(to_dict(config))
    except (ValueError, UserError) as error:  # to_dict has a depth of its own
        raise UserError(f"{path}: its configuration cannot be used: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: its configuration is nested too deeply. {advice}") from None
    if names:
        raise UserError(
            f"{path} needs Python code of its author, which a file of tensors cannot contain; nothing was "
            "executed. Ask for the work directory of the run."
        )
    tensors = {tuple(name.split("/")): value for name, value in named.items()}
    expected = {name: leaf.shape for name, leaf in variable_shapes(config.model, config.fbank.num_features).items()}
    found = {name: value.shape for name, value in tensors.items()}
    if wrong := sorted({*expected.items()} ^ {*found.items()}):
        raise UserError(f"{path}: {'/'.join(wrong[0][0])} is not as the file's configuration describes it.")
    return config, traverse_util.unflatten_dict({name: jnp.asarray(value) for name, value in tensors.items()})


def _checksum(described: str, tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the configuration and of every tensor with its name, type and shape."""
    digest = hashlib.sha256(described.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"\n{name} {value.dtype} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()
