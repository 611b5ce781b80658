"""Reads the tensors of the network in a foreign checkpoint, in any of the usual files and wrappings."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.interop.safetensors_file import read_safetensors
from mqmha_jax.interop.torch_file import read_torch_file

CHECKPOINT_ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")

# Training scripts store the network under such names, next to optimizer, epoch and the like.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "speaker_model", "embedding_model")

# Data parallelism and composite models put these before every name of the network.
_PREFIXES = ("module.", "speaker_model.", "model.", "embedding_model.", "speaker_encoder.")

# Training heads and PyTorch's counters of batches: they do not belong to the network that embeds.
_NOT_OF_THE_NETWORK = re.compile(r"(projection|classifier|head_module|loss)\.|.*\bnum_batches_tracked$")


def read_checkpoint_file(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a network.

    Args:
      path: a PyTorch file, or a safetensors file (by its ending).

    Returns:
      Foreign names without the prefixes of wrappers -> arrays, in the order of the file; training heads and counters
      are left out.

    Raises:
      UserError: the file is missing, is damaged, or holds no network; a value is not finite.
    """
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.suffix in CHECKPOINT_ENDINGS)
        hint = f" such as {path / inside[0]}" if inside else f" which ends in {', '.join(CHECKPOINT_ENDINGS)}"
        raise UserError(f"{path} is a folder; give the checkpoint file in it,{hint}.")
    content = read_safetensors(path)[0] if path.suffix == ".safetensors" else read_torch_file(path)
    return network_tensors(content, str(path))


def network_tensors(content: Any, where: str) -> dict[str, np.ndarray]:
    """Selects the tensors of the network from the content of a file.

    Args:
      content: a state dictionary, or dictionaries around one.
      where: names the file in messages.

    Raises:
      UserError: there is no state dictionary, or a value is not finite.
    """
    tensors = _strip_prefixes(_find_state_dictionary(content, where))
    tensors = {name: value for name, value in tensors.items() if not _NOT_OF_THE_NETWORK.match(name)}
    for name, value in tensors.items():
        # NumPy does not count bfloat16 as a floating type, but its isfinite accepts it.
        if not np.issubdtype(value.dtype, np.integer) and not np.isfinite(value).all():
            number = int(np.count_nonzero(~np.isfinite(value)))
            raise UserError(
                f"{where}: the tensor {name!r} holds {count_noun(number, 'value')}, NaN or infinite, so "
                "the network cannot embed. Use an earlier checkpoint of that training."
            )
    return tensors


def _find_state_dictionary(content: Any, where: str) -> Mapping[str, np.ndarray]:
    if not isinstance(content, Mapping):
        raise UserError(f"{where} holds a {type(content).__name__}, not a state dictionary; save model.state_dict().")
    for wrapper in _WRAPPERS:
        if isinstance(inner := content.get(wrapper), Mapping):
            return _find_state_dictionary(inner, where)
    for name, value in content.items():
        if not isinstance(value, np.ndarray):
            raise UserError(
                f"{where}: entry {name!r} is a {type(value).__name__}, not a tensor; save only model.state_dict()."
            )
    if not content:
        raise UserError(f"{where} holds no tensors.")
    return {str(name): value for name, value in content.items()}


def _strip_prefixes(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Removes each prefix of the network's names, and leaves out names without it (heads)."""
    for prefix in _PREFIXES:
        inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        others = [name for name in tensors if not name.startswith(prefix)]
        if inside and all(_NOT_OF_THE_NETWORK.match(name.removeprefix("module.")) for name in others):
            return _strip_prefixes(inside)
    return tensors
