"""NumPy's files: declared sizes are checked before memory is taken, objects never load, flips are refused."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mqmha_jax.errors import UserError
from mqmha_jax.npz_file import open_npz, read_npy
from tests.support.flips import flip_each, refusal_of


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def load(path: Path) -> dict[str, np.ndarray]:
    with open_npz(path, advice="Make it again.") as archive:
        return {name: archive[name] for name in archive.files}


def test_arrays_are_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "it.npz"
    np.savez(path, a=np.arange(3), names=np.array(["x", "yy"]), step=7)
    with open_npz(path, advice="") as archive:
        assert archive["step"] == 7
        assert archive["names"].tolist() == ["x", "yy"]
    with (
        pytest.raises(UserError, match=r"it\.npz lacks an array \(none is not a file.*\)\. Make it again\."),
        open_npz(path, advice="Make it again.") as archive,
    ):
        archive["none"]
    np.savez_compressed(path, zeros=np.zeros(1_000_000))  # a thousandth of its size, and honest
    assert load(path)["zeros"].size == 1_000_000


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.npy": header((10**12,)) + bytes(80)}, r"header of a\.npy declares 8000000000\d+ bytes, its data has 208"),
        ({"a.npy": header((10**30,)) + bytes(80)}, r"header of a\.npy declares \d+ bytes, its data has 208"),
        ({"a.npy": header((2,), "|O")}, "it holds Python objects"),
        ({"a.npy": b"not an array"}, "it.npz is damaged, or is no .npz file of arrays"),
        ({"a.npy": npy(np.arange(9))[:-8]}, r"header of a\.npy declares 200 bytes, its data has 192"),
    ],
)
def test_a_header_that_lies_is_refused_before_memory_is_taken(
    members: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "it.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "it.npz")


def test_bytes_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    (tmp_path / "it.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"it\.npz is damaged, or is no \.npz file of arrays \(.*\)\. Make it again\."):
        load(tmp_path / "it.npz")
    with pytest.raises(UserError, match=r"none\.npz cannot be read \(No such file"):
        load(tmp_path / "none.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_is_refused_or_changes_nothing(save, tmp_path: Path) -> None:
    path = tmp_path / "it.npz"
    arrays = {"mean": np.arange(40, dtype=np.float32), "step": np.array(7)}
    save(path, **arrays)

    def read() -> None:
        with open_npz(path, advice="") as archive:
            for name, array in arrays.items():
                np.testing.assert_array_equal(archive[name], array)

    refusals = [refusal_of(read) for _ in flip_each(path)]
    assert any(refusals)
    assert all(str(path) in refusal for refusal in refusals if refusal)


def test_a_single_array_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "it.npy"
    path.write_bytes(npy(np.arange(9)))
    np.testing.assert_array_equal(read_npy(path, advice=""), np.arange(9))
    path.write_bytes(header((10**12,)) + bytes(80))
    with pytest.raises(UserError, match=r"declares 8000000000\d+ bytes, the file has 208\)\. Make it again\."):
        read_npy(path, advice="Make it again.")
    path.write_bytes(header((2,), "|O"))
    with pytest.raises(UserError, match="it holds Python objects"):
        read_npy(path, advice="")
