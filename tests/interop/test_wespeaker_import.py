"""Foreign checkpoints: same embeddings, refusals by name, and no pickle that gets to act."""

import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import jax
import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.interop import import_wespeaker_resnet, read_torch_file
from mqmha_jax.models import build_speaker_net


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
    for content, message in [([1], "holds a list"), ({"epoch": 3}, "entry 'epoch' is a int, not a tensor")]:
        write_archive(tmp_path / "other.pt", pickle.dumps(content), {})
        with pytest.raises(UserError, match=message):
            read_torch_file(tmp_path / "other.pt")


@pytest.mark.parametrize("name", ["resnet34_tstp", "resnet50_tstp", "resnet18_mqmha"])
def test_embeddings_equal_wespeakers(name, reference_dir):
    reference = np.load(reference_dir / "wespeaker_resnets.npz", allow_pickle=False)
    model = import_wespeaker_resnet(read_torch_file(reference_dir / f"wespeaker_{name}.pt"))
    net = build_speaker_net(model.config)
    fbank = reference[f"{name}/fbank"]
    embed = jax.jit(lambda fbank, mask: net.apply(model.variables, fbank, mask, train=False))
    embedding = embed(fbank, np.ones(fbank.shape[:2], bool))
    expected = reference[f"{name}/embedding"]
    np.testing.assert_allclose(embedding, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def mqmha_state(reference_dir):
    return read_torch_file(reference_dir / "wespeaker_resnet18_mqmha.pt")


def test_the_training_head_is_left_out(mqmha_state):
    import_wespeaker_resnet({**mqmha_state, "projection.weight": np.zeros((9, 32), np.float32)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.weight": None}, "it lacks 'conv1.weight'"),
        ({"layer2.0.bn1.running_var": None}, "it lacks 'layer2.0.bn1.running_var'"),
        ({"pool.n_query.1.heads_att_trans.3.att_0.bias": None}, "it lacks 'pool.n_query.1.heads_att_trans.3.att_0"),
        ({"seg_2.weight": np.zeros((32, 32))}, "have no place in a ResNet of .* with 'mqmha' pooling: seg_2.weight"),
        ({"layer1.0.bn1.weight": np.zeros(9)}, r"encoder/stage1_block1/layer1/norm/scale has shape \(9,\).* \(8,\)"),
    ],
)
def test_what_does_not_fit_is_named(mqmha_state, change, message):
    state = {name: value for name, value in {**mqmha_state, **change}.items() if value is not None}
    with pytest.raises(UserError, match=message):
        import_wespeaker_resnet(state)


def test_a_wrong_number_of_features_is_noticed(reference_dir):
    state = read_torch_file(reference_dir / "wespeaker_resnet34_tstp.pt")
    with pytest.raises(UserError, match="Check num_features"):
        import_wespeaker_resnet(state, num_features=40)
