"""Reads the tensors of a PyTorch checkpoint without PyTorch, and without running what the file asks to run.

A ``.pt`` file is a zip archive: ``<name>/data.pkl`` is a pickle that describes the tensors, ``<name>/data/<key>`` are
their bytes. A pickle may name any function to call; this reader knows the few that describe tensors and refuses the
rest before anything is called.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mqmha_jax.errors import UserError

_STORAGE_DTYPES = {
    "HalfStorage": np.float16,
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "ByteStorage": np.uint8,
    "CharStorage": np.int8,
    "ShortStorage": np.int16,
    "IntStorage": np.int32,
    "LongStorage": np.int64,
    "BoolStorage": np.bool_,
}


class _StorageType(NamedTuple):
    """Stands for a torch storage class; the pickle only passes it on to the storage's identity."""

    dtype: type


def read_torch_file(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a state dictionary.

    Args:
      path: a file written by ``torch.save(model.state_dict(), path)``, PyTorch 1.6 or later.

    Returns:
      Name -> array, in the order of the file.

    Raises:
      UserError: the file is missing, is no such archive, is damaged, or holds anything but tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (description,) = [
                name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")
            ]
            root = description.removesuffix("data.pkl")
            if root + "byteorder" in archive.namelist() and archive.read(root + "byteorder") != b"little":
                raise UserError(f"{path} holds big-endian numbers; save it again on a little-endian machine.")
            content = _TensorUnpickler(archive, root, path).load()
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except UserError:
        raise
    except Exception as error:  # whatever bytes can do to the zip and pickle readers, the user hears about the file
        raise UserError(
            f"{path} cannot be read as a PyTorch checkpoint ({type(error).__name__}: {error}). It must be the zip file "
            "that torch.save(model.state_dict(), path) writes since PyTorch 1.6, and complete."
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dictionary; save model.state_dict().")
    for name, value in content.items():
        if not isinstance(value, np.ndarray):
            raise UserError(
                f"{path}: entry {name!r} is a {type(value).__name__}, not a tensor; save model.state_dict() alone."
            )
    return dict(content)


class _TensorUnpickler(pickle.Unpickler):
    """Understands tensors, their storages and ordered dictionaries; refuses every other name."""

    def __init__(self, archive: zipfile.ZipFile, root: str, path: str | Path) -> None:
        super().__init__(io.BytesIO(archive.read(root + "data.pkl")))
        self._archive = archive
        self._root = root
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _strided_array
        if module == "torch" and name in _STORAGE_DTYPES:
            return _StorageType(_STORAGE_DTYPES[name])
        raise UserError(
            f"{self._path} asks for {module}.{name}, which is no part of a plain state dictionary; nothing was "
            "executed. Save the tensors alone with torch.save(model.state_dict(), path)."
        )

    def persistent_load(self, identity: Any) -> np.ndarray:
        kind, storage_type, key, _, size = identity
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"unknown kind of storage {kind!r}")
        values: np.ndarray = np.frombuffer(self._archive.read(f"{self._root}data/{key}"), storage_type.dtype)
        if values.size != size:
            raise ValueError(f"storage {key} holds {values.size} values instead of {size}")
        return values


def _strided_array(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *unused: Any
) -> np.ndarray:
    """A tensor as PyTorch describes it (strides count values, not bytes), copied out of its storage."""
    if len(shape) != len(strides) or offset < 0 or min((*shape, *strides, 0)) < 0:
        raise ValueError("a tensor with negative offset, size or stride")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= storage.size:
        raise ValueError("a tensor reaches beyond its storage")
    byte_strides = tuple(stride * storage.itemsize for stride in strides)
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, byte_strides).copy()
