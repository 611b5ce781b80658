"""Reads the tensors of a PyTorch checkpoint without PyTorch, and without running what the file asks to run.

Since PyTorch 1.6 a ``.pt`` file is a zip archive: ``<name>/data.pkl`` is a pickle that describes the tensors,
``<name>/data/<key>`` are their bytes. Older files are streams: a magic number, a version, facts about the machine, the
description, the list of storages, then each storage with its size.
"""

import io
import os
import pickle
import reprlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mqmha_jax.errors import UserError
from mqmha_jax.interop.torch_pickle import Storage, TensorView, load_pickle

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # first pickle of a stream (torch/serialization.py)
_STREAM_VERSION = 1001
_VALID = "It must be a file that torch.save(model.state_dict(), path) writes, and complete."

_ReadStorage = Callable[[Storage], np.ndarray]


def read_torch_file(path: str | Path) -> Any:
    """Reads a checkpoint as plain data.

    Args:
      path: a file that ``torch.save`` wrote.

    Returns:
      What was saved: a state dictionary, or dictionaries and lists around one; each tensor is a read-only array.

    Raises:
      UserError: the file is missing or damaged, is not such a file, or asks for anything but tensors and plain data.
    """
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    return _read_archive(archive, str(path), os.fstat(file.fileno()).st_size)
            file.seek(0)
            if (start := file.read(4))[:1] != pickle.PROTO:
                what = {b"": "it is empty", b"PK\x03\x04": "its end is missing"}.get(start, f"it begins with {start!r}")
                raise UserError(f"{path} cannot be read as a PyTorch checkpoint: {what}. {_VALID}")
            file.seek(0)
            return _read_stream(file, str(path), os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except UserError:
        raise
    except Exception as error:  # bad bytes can raise anything in the zip and pickle readers
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{path} cannot be read as a PyTorch checkpoint ({reason}). {_VALID}") from error


def _read_archive(archive: zipfile.ZipFile, where: str, num_bytes: int) -> Any:
    (description,) = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    root = description.removesuffix("data.pkl")
    left = num_bytes

    def read(name: str) -> bytes:
        nonlocal left
        entry = archive.getinfo(name)
        # torch.save compresses nothing, so all entries together have no more bytes than the file.
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed, and torch.save compresses nothing")
        if entry.file_size > left:
            raise ValueError(f"{name} claims {entry.file_size} bytes where a file of {num_bytes} has {left} left")
        left -= entry.file_size
        return archive.read(entry)

    if root + "byteorder" in archive.namelist() and read(root + "byteorder") != b"little":
        raise UserError(f"{where} holds big-endian numbers; save it again on a little-endian machine.")
    content = load_pickle(io.BytesIO(read(description)), where)

    def read_storage(storage: Storage) -> np.ndarray:
        content = read(f"{root}data/{storage.key}")
        if len(content) != storage.num_bytes:
            raise ValueError(f"storage {storage.key} has {len(content)} bytes instead of {storage.num_bytes}")
        return np.frombuffer(content, storage.dtype)

    return _fill_in_arrays(content, read_storage)


def _read_stream(file: io.BufferedReader, where: str, num_bytes: int) -> Any:
    if load_pickle(file, where) != _MAGIC_NUMBER:
        raise ValueError("it is neither a zip archive nor a stream with PyTorch's magic number")
    version, machine = load_pickle(file, where), load_pickle(file, where)
    if version != _STREAM_VERSION or not machine.get("little_endian", False):
        order = reprlib.repr(machine.get("little_endian"))
        raise ValueError(f"stream version {reprlib.repr(version)}, little endian: {order}")
    content = load_pickle(file, where)
    keys = load_pickle(file, where)
    declared = {view.storage.key: view.storage for view in _views(content)}
    values: dict[str, np.ndarray] = {}
    for key in keys:
        if not isinstance(key, str) or key not in declared:
            raise ValueError(f"storage {reprlib.repr(key)} belongs to no tensor")
        size = int.from_bytes(_read_exactly(file, 8, num_bytes), "little", signed=True)
        if size != declared[key].size:
            raise ValueError(f"storage {key} has {size} values, not what the description says")
        values[key] = np.frombuffer(_read_exactly(file, declared[key].num_bytes, num_bytes), declared[key].dtype)
    return _fill_in_arrays(content, lambda storage: values[storage.key])


def _read_exactly(file: io.BufferedReader, wanted: int, num_bytes: int) -> bytes:
    if wanted > num_bytes - file.tell():
        raise ValueError(f"the file ends early: {wanted} bytes are announced and {num_bytes - file.tell()} are left")
    return file.read(wanted)


def _views(content: Any) -> list[TensorView]:
    views: list[TensorView] = []
    _replace_views(content, views.append)
    return views


def _fill_in_arrays(content: Any, read_storage: _ReadStorage) -> Any:
    """Replaces each description in dictionaries and lists by its array; reads each storage once."""
    values: dict[str, np.ndarray] = {}

    def fill_in(view: TensorView) -> np.ndarray:
        key = view.storage.key
        if key not in values:
            values[key] = read_storage(view.storage)
        if values[key].dtype != view.storage.dtype:
            raise ValueError(f"storage {key} has two types")
        if values[key].size != view.storage.size:
            raise ValueError(f"storage {key} has two sizes")
        return view.array(values[key])

    return _replace_views(content, fill_in)


def _replace_views(content: Any, replace: Callable[[TensorView], Any]) -> Any:
    """The same dictionaries and lists, whose descriptions of tensors are replaced."""
    # A pickle can hold a list twice in a list, that one twice in the next, and so on: 20 such lines are a million
    # lists for a walk that does not remember where it has been.
    replaced: dict[int, Any] = {}

    def visit(node: Any) -> Any:
        if not isinstance(node, (Mapping, list, tuple)):
            return node
        if id(node) not in replaced:
            if isinstance(node, TensorView):
                new: Any = replace(node)
            elif isinstance(node, Mapping):
                new = {name: visit(value) for name, value in node.items()}
            else:
                new = [visit(value) for value in node]
            replaced[id(node)] = new
        return replaced[id(node)]

    return visit(content)
