"""Reads safetensors files, and says so if one is damaged."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from mqmha_jax.errors import UserError


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a file.

    Returns:
      Its tensors by name, and its metadata.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a safetensors file ({error}); it is damaged or incomplete."
        ) from None
