"""Writes a state dictionary as ``torch.save`` does, without PyTorch."""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mqmha_jax.atomic import replacing

_ROOT = "archive"


def write_torch_file(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes float32 tensors that ``torch.load(path, weights_only=True)`` reads.

    Args:
      path: of the file.
      tensors: names -> float32 arrays, in the order to be saved.

    Raises:
      UserError: the file cannot be written.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{_ROOT}/data.pkl", _describe(tensors))
        archive.writestr(f"{_ROOT}/byteorder", "little")
        for key, value in enumerate(tensors.values()):
            archive.writestr(f"{_ROOT}/data/{key}", np.ascontiguousarray(value, "<f4").tobytes())
        archive.writestr(f"{_ROOT}/version", "3\n")


def _describe(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of ``{name: torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())}``.

    It consists of hand-written opcodes, because ``pickle`` names only functions that it can import.
    """
    parts = [pickle.PROTO, b"\x02", pickle.EMPTY_DICT, pickle.MARK]
    for key, (name, value) in enumerate(tensors.items()):
        strides = [int(np.prod(value.shape[axis + 1 :])) for axis in range(value.ndim)]
        storage = [
            _text("storage"),
            _name("torch", "FloatStorage"),
            _text(str(key)),
            _text("cpu"),
            _number(value.size),
        ]
        parts += [
            _text(name),
            _name("torch._utils", "_rebuild_tensor_v2"),
            pickle.MARK,
            *[pickle.MARK, *storage, pickle.TUPLE, pickle.BINPERSID],
            _number(0),
            *[pickle.MARK, *map(_number, value.shape), pickle.TUPLE],
            *[pickle.MARK, *map(_number, strides), pickle.TUPLE],
            pickle.NEWFALSE,
            *[_name("collections", "OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE],
            pickle.TUPLE,
            pickle.REDUCE,
        ]
    return b"".join([*parts, pickle.SETITEMS, pickle.STOP])


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    content = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(content)) + content


def _number(number: int) -> bytes:
    return pickle.BININT + struct.pack("<i", number)
