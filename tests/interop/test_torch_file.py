"""PyTorch files: views of storages, the old stream format, refusals by name, and no executed pickle."""

import copy
import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.interop import network_tensors, read_torch_file


def write_archive(path, pickled: bytes, storages: dict[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickled)
        archive.writestr("model/byteorder", "little")
        for key, values in storages.items():
            archive.writestr(f"model/data/{key}", values.tobytes())


@pytest.fixture
def pickle_like_torch(monkeypatch):
    """Pickles ``{name: (storage key, offset, shape, strides)}`` with the names that ``torch.save`` would write."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*args):
        raise AssertionError("only its name is wanted")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Storage:
        def __init__(self, key, size):
            self.identity = ("storage", torch.FloatStorage, key, "cpu", size)

    class Tensor:
        def __init__(self, storage, *layout):
            self.arguments = (storage, *layout, False, OrderedDict())

        def __reduce__(self):
            return _rebuild_tensor_v2, self.arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.identity if isinstance(value, Storage) else None

    def dump(tensors, size):
        buffer = io.BytesIO()
        Pickler(buffer, protocol=2).dump(
            OrderedDict((name, Tensor(Storage(key, size), *layout)) for name, (key, *layout) in tensors.items())
        )
        return buffer.getvalue()

    return dump


def test_reads_views_of_storages(tmp_path, pickle_like_torch):
    values = np.arange(6, dtype=np.float32)
    tensors = {"transposed": ("0", 0, (3, 2), (1, 3)), "scalar": ("0", 4, (), ()), "empty": ("0", 6, (0,), (1,))}
    path = tmp_path / "model.pt"
    write_archive(path, pickle_like_torch(tensors, size=6), {"0": values})
    read = read_torch_file(path)
    np.testing.assert_array_equal(read["transposed"], values.reshape(2, 3).T)
    assert read["scalar"] == 4
    assert read["empty"].shape == (0,)


@pytest.mark.parametrize(
    "layout", [(0, (7,), (1,)), (5, (2,), (1,)), (0, (2, 2), (5, 1)), (-1, (1,), (1,)), (0, (2,), (-1,))]
)
def test_tensors_that_reach_beyond_their_storage_are_refused(tmp_path, pickle_like_torch, layout):
    path = tmp_path / "model.pt"
    write_archive(path, pickle_like_torch({"x": ("0", *layout)}, size=6), {"0": np.zeros(6, np.float32)})
    with pytest.raises(UserError, match="cannot be read as a PyTorch checkpoint"):
        read_torch_file(path)


class _Attack:
    def __init__(self, directory):
        self.directory = directory

    def __reduce__(self):
        return os.mkdir, (str(self.directory),)


def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path):
    pickled = pickle.dumps({"x": _Attack(tmp_path / "hacked")})
    write_archive(tmp_path / "model.pt", pickled, {})
    with pytest.raises(UserError, match=r"asks for posix.mkdir, .*; nothing was executed"):
        read_torch_file(tmp_path / "model.pt")
    assert not (tmp_path / "hacked").exists()
    pickle.loads(pickled)
    assert (tmp_path / "hacked").exists(), "the attack would not have worked anyway"


def test_broken_files_are_named(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        read_torch_file(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(UserError, match=r"text.pt cannot be read .* complete"):
        read_torch_file(tmp_path / "text.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [([1], "holds a list"), ({"epoch": 3}, "entry 'epoch' is a int, not a tensor"), ({}, "holds no tensors")],
)
def test_files_without_a_state_dictionary_are_named(tmp_path, content, message):
    write_archive(tmp_path / "other.pt", pickle.dumps(content), {})
    with pytest.raises(UserError, match=message):
        network_tensors(read_torch_file(tmp_path / "other.pt"), "other.pt")


def write_stream(path, tensors_pickle: bytes, storages: dict[str, np.ndarray], sizes: dict[str, int] | None = None):
    """A file of PyTorch before 1.6."""
    facts = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    with path.open("wb") as file:
        for fact in facts:
            pickle.dump(fact, file, protocol=2)
        file.write(tensors_pickle)
        pickle.dump(list(storages), file, protocol=2)
        for key, values in storages.items():
            file.write((sizes or {}).get(key, values.size).to_bytes(8, "little"))
            file.write(values.tobytes())


def test_reads_the_stream_format(tmp_path, pickle_like_torch):
    values = np.arange(6, dtype=np.float32)
    tensors = {"transposed": ("0", 0, (3, 2), (1, 3)), "other": ("1", 2, (2,), (1,))}
    write_stream(tmp_path / "old.pt", pickle_like_torch(tensors, size=6), {"0": values, "1": values + 10})
    read = read_torch_file(tmp_path / "old.pt")
    np.testing.assert_array_equal(read["transposed"], values.reshape(2, 3).T)
    np.testing.assert_array_equal(read["other"], [12, 13])


def test_a_stream_that_ends_early_or_disagrees_is_refused(tmp_path, pickle_like_torch):
    values = np.zeros(6, np.float32)
    path = tmp_path / "old.pt"
    write_stream(path, pickle_like_torch({"x": ("0", 0, (6,), (1,))}, size=6), {"0": values})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="the file ends early: 24 bytes are announced and 20 are left"):
        read_torch_file(path)
    write_stream(path, pickle_like_torch({"x": ("0", 0, (6,), (1,))}, size=6), {"0": values}, sizes={"0": 7})
    with pytest.raises(UserError, match="storage 0 has 7 values, not what the description says"):
        read_torch_file(path)


def test_sizes_that_only_claim_memory_are_refused(tmp_path, pickle_like_torch):
    path, huge = tmp_path / "model.pt", 1 << 30
    write_stream(path, pickle_like_torch({"x": ("0", 0, (huge,), (1,))}, size=huge), {"0": np.zeros(1)}, {"0": huge})
    with pytest.raises(UserError, match=f"the file ends early: {4 * huge} bytes are announced"):
        read_torch_file(path)
    write_archive(path, pickle_like_torch({"x": ("0", 0, (huge,), (0,))}, size=6), {"0": np.zeros(6, np.float32)})
    with pytest.raises(UserError, match="reaches beyond its storage of 6 values"):
        read_torch_file(path)
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        pickled = pickle_like_torch({"x": ("0", 0, (1 << 20,), (1,))}, size=1 << 20)
        archive.writestr("model/data.pkl", pickled, zipfile.ZIP_STORED)
        archive.writestr("model/data/0", bytes(4 << 20))
    with pytest.raises(UserError, match=r"model/data/0 is compressed, and torch.save compresses nothing"):
        read_torch_file(path)
    write_archive(path, b"\x80\x02}r\xff\xff\xff\x7f.", {})  # remembers an object under number 2^31
    with pytest.raises(UserError, match="the pickle numbers an object 2147483647 but has only 9 bytes"):
        read_torch_file(path)


@pytest.mark.parametrize("write", [write_archive, write_stream])
def test_lists_within_lists_twice_each_are_visited_once(tmp_path, write):
    nested: list = []
    for _ in range(200):  # as a tree, 2^200 lists
        nested = [nested, nested]
    path = tmp_path / "model.pt"
    write(path, pickle.dumps({"x": nested}, protocol=2), {})
    with pytest.raises(UserError, match="entry 'x' is a list, not a tensor"):
        network_tensors(read_torch_file(path), "model.pt")


def test_a_description_that_would_fill_pages_is_cut_short(tmp_path):
    nested: list = []
    for _ in range(60):
        nested = [nested, nested]
    path = tmp_path / "old.pt"
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, nested, {})))
    with pytest.raises(UserError, match=r"stream version .* little endian: None") as error:
        read_torch_file(path)
    assert len(str(error.value)) < 1_000


def test_entries_that_claim_more_together_than_the_file_has_are_refused(tmp_path, pickle_like_torch):
    path, size = tmp_path / "model.pt", 1 << 10
    tensors = {name: (name, 0, (size,), (1,)) for name in "01"}
    write_archive(path, pickle_like_torch(tensors, size=size), {"0": np.zeros(size, np.float32)})
    with zipfile.ZipFile(path, "a") as archive:  # a second name of the same bytes
        archive.infolist().append(again := copy.copy(archive.getinfo("model/data/0")))
        again.filename = "model/data/1"
        archive._didModify = True
    with pytest.raises(UserError, match=r"model/data/1 claims 4096 bytes where a file of \d+ has \d+ left"):
        read_torch_file(path)
