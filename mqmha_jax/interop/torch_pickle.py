"""Reads the pickles inside PyTorch files as a description of tensors. A pickle may name any function to call; this
reader knows the few that describe tensors and refuses the rest before anything is called.
"""

import collections
import io
import math
import pickle
import pickletools
import reprlib
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from mqmha_jax.errors import UserError

_STORAGE_DTYPES: dict[str, Any] = {
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "ByteStorage": np.uint8,
    "CharStorage": np.int8,
    "ShortStorage": np.int16,
    "IntStorage": np.int32,
    "LongStorage": np.int64,
    "BoolStorage": np.bool_,
}


class StorageType(NamedTuple):
    """Stands for a torch storage class."""

    dtype: Any


class Storage(NamedTuple):
    """Values in the file that tensors are views of.

    Attributes:
      key: names it within the file.
      dtype: of its values.
      size: number of values, as the pickle declares it; the reader of the file checks it.
    """

    key: str
    dtype: Any
    size: int

    @property
    def num_bytes(self) -> int:
        """Declared size in bytes."""
        return self.size * np.dtype(self.dtype).itemsize


class TensorView(NamedTuple):
    """A tensor as PyTorch describes it; offset and strides count values, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, values: np.ndarray) -> np.ndarray:
        """A read-only view of the storage's values; nothing is copied."""
        byte_strides = tuple(stride * values.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, byte_strides, writeable=False)


def load_pickle(stream: io.BufferedReader | io.BytesIO, where: str) -> Any:
    """Reads one pickle; each tensor is a :class:`TensorView` inside its storage, each storage a :class:`Storage`.

    Args:
      stream: at the start of the pickle; afterwards at its end.
      where: names the file in messages.

    Raises:
      UserError: the pickle asks for anything but tensors and plain data; nothing was executed.
      Exception: of any type, if bytes are damaged.
    """
    return _TensorUnpickler(_cut_out_pickle(stream), where).load()


def _cut_out_pickle(stream: io.BufferedReader | io.BytesIO) -> io.BytesIO:
    """Returns the next pickle, after a check of how much memory it would make the unpickler reserve."""
    start = stream.tell()
    largest_index = 0
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int):
            largest_index = max(largest_index, argument)
    length = stream.tell() - start
    if largest_index > length:  # the unpickler's table of remembered objects has one entry per index
        raise ValueError(f"the pickle numbers an object {largest_index} but has only {length} bytes")
    stream.seek(start)
    return io.BytesIO(stream.read(length))


class _TensorUnpickler(pickle.Unpickler):
    """Understands tensors, their storages and ordered dictionaries; refuses every other name."""

    def __init__(self, stream: io.BytesIO, where: str) -> None:
        super().__init__(stream)
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")):
            return _view_of
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if module == "torch" and name in _STORAGE_DTYPES:
            return StorageType(_STORAGE_DTYPES[name])
        raise UserError(
            f"{self._where} asks for {module}.{name}, which does not belong in a plain state dictionary; nothing was "
            "executed. Save only the tensors, with torch.save(model.state_dict(), path)."
        )

    def persistent_load(self, identity: Any) -> Storage:
        kind, storage_type, key, _, size = identity[:5]
        if kind != "storage" or not isinstance(storage_type, StorageType):
            raise ValueError(f"unknown kind of storage {reprlib.repr(kind)}")
        if len(identity) > 5 and identity[5] is not None:
            raise ValueError("a storage that is a view of another one; PyTorch older than 0.4 wrote these")
        if not isinstance(key, str):
            raise ValueError(f"a storage called {reprlib.repr(key)}, which is no text")
        if not isinstance(size, int) or size < 0:
            raise ValueError(f"a storage of size {reprlib.repr(size)}")
        return Storage(key, storage_type.dtype, size)


def _view_of(
    storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *unused: Any
) -> TensorView:
    """Checks a tensor against its storage, so that the view reads no byte of another one."""
    if not isinstance(storage, Storage) or len(shape) != len(strides) or min((*shape, *strides, offset, 0)) < 0:
        raise ValueError("a tensor with negative offset, size or stride")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    # A stride of zero repeats values: a few bytes could claim any size. State dictionaries hold no such tensors.
    if (size := math.prod(shape)) > storage.size or (size and last >= storage.size):
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {storage.size} values")
    return TensorView(storage, offset, tuple(shape), tuple(strides))


def _parameter(view: TensorView, *unused: Any) -> TensorView:
    return view
