"""Reads safetensors files, and says so if one is damaged."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from mqmha_jax.errors import UserError


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a file.

    Returns:
      Its tensors by name, and its metadata.

    Raises:
      UserError: the file is missing or damaged, or a tensor has a type that NumPy lacks.
    """
    try:
        with safe_open(path, framework="np") as file:
            return {name: _read_tensor(file, name, path) for name in list(file.keys())}, file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except UserError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a safetensors file ({error}); it is damaged or incomplete."
        ) from None


def _read_tensor(file: Any, name: str, path: Path) -> np.ndarray:
    try:
        return np.asarray(file.get_tensor(name))
    except (AttributeError, TypeError):  # safetensors asks NumPy for a type that it does not have
        kind = file.get_slice(name).get_dtype()
        raise UserError(
            f"{path}: the tensor {name!r} has the type {kind}, which is not read; save it as F32, F16 or BF16."
        ) from None
