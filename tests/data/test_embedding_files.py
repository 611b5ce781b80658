"""Embeddings from every kind of file are the same, pickles stay closed, and damage is named."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqmha_jax.data import kaldi_vectors
from mqmha_jax.data.embedding_files import read_embeddings
from mqmha_jax.data.ids import quote_id
from mqmha_jax.errors import UserError

VECTORS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
IDS = ("id1/a/001.wav", "id1/b", "id2/c")


def binary(vector: np.ndarray, kind: bytes = b"FV ") -> bytes:
    return b"\0B" + kind + b"\4" + struct.pack("<i", vector.size) + vector.tobytes()


def write_ark(path: Path) -> list[int]:
    """Writes an archive as Kaldi's copy-vector does, and returns where each vector starts."""
    offsets, content = [], b""
    for name, vector in zip(IDS, VECTORS, strict=True):
        content += name.encode() + b" "
        offsets.append(len(content))
        content += binary(vector)
    path.write_bytes(content)
    return offsets


def assert_read(path: Path) -> None:
    embeddings = read_embeddings(path)
    assert embeddings.ids == IDS
    np.testing.assert_allclose(embeddings.vectors, VECTORS, rtol=1e-6)
    assert embeddings.vectors.dtype == np.float32


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", ids=np.array(IDS), vectors=VECTORS)
    assert_read(tmp_path / "e.npz")


def test_kaldi_archive_and_table(tmp_path: Path) -> None:
    offsets = write_ark(tmp_path / "e.ark")
    assert_read(tmp_path / "e.ark")
    lines = [f"{name} e.ark:{offset}\n" for name, offset in zip(IDS, offsets, strict=True)]
    (tmp_path / "e.scp").write_text("".join(lines))  # relative to the table, as the present directory has no e.ark
    assert_read(tmp_path / "e.scp")


def test_kaldi_text_and_doubles(tmp_path: Path) -> None:
    lines = [
        f"{name}  [ {' '.join(map(str, vector))} ]\n" for name, vector in zip(IDS, VECTORS.astype(float), strict=True)
    ]
    (tmp_path / "text.ark").write_text("".join(lines))
    assert_read(tmp_path / "text.ark")
    doubles = b"".join(
        name.encode() + b" " + binary(vector.astype("<f8"), b"DV ") for name, vector in zip(IDS, VECTORS, strict=True)
    )
    (tmp_path / "double.ark").write_bytes(doubles)
    assert_read(tmp_path / "double.ark")


def test_an_archive_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the next name used to read 64 KiB of the disk again."""
    content = b"".join(f"id/{i} ".encode() + binary(VECTORS[i % 3]) for i in range(2_000))
    (tmp_path / "e.ark").write_bytes(content)
    read = 0

    class Counted(io.FileIO):
        def readinto(self, buffer: Any, /) -> int:
            nonlocal read
            read += (count := super().readinto(buffer) or 0)
            return count

    monkeypatch.setattr(kaldi_vectors, "_open_archive", lambda path: io.BufferedReader(Counted(path)))
    assert len(read_embeddings(tmp_path / "e.ark").ids) == 2_000
    assert read < 2 * len(content)


@pytest.mark.parametrize("name", ["u" * 300, "a " * 200 + "b", 'a\\" ' * 90 + "b", '"' + "u" * 300, '"u'])
def test_long_names_are_read_whole(tmp_path: Path, name: str) -> None:
    for field in {quote_id(name), name if " " not in name else quote_id(name)}:  # other programs quote nothing
        (tmp_path / "e.ark").write_bytes(f"{field} ".encode() + binary(VECTORS[0]) + b"next " + binary(VECTORS[1]))
        assert read_embeddings(tmp_path / "e.ark").ids == (name, "next")


def test_folder(tmp_path: Path) -> None:
    for name, vector in zip(IDS, VECTORS, strict=True):
        path = tmp_path / "e" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, vector[None] if name.endswith("c") else vector)  # [1, E] counts as a vector
    assert_read(tmp_path / "e")


def test_pickles_stay_closed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(tmp_path / "exploded").write_text, ("",))

    objects = np.array([Bomb()], object)
    np.savez(tmp_path / "e.npz", ids=np.array(["a"]), vectors=objects)
    (tmp_path / "e").mkdir()
    np.save(tmp_path / "e" / "a.npy", objects)
    (tmp_path / "e.pkl").write_bytes(pickle.dumps(Bomb()))
    for name in ("e.npz", "e", "e.pkl"):
        with pytest.raises(UserError):
            read_embeddings(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_arrays_that_are_not_embeddings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    with pytest.raises(UserError, match=r"e.npz lacks an array \(vectors.*No embeddings can be read; valid: an .npz"):
        read_embeddings(npz(path, ids=np.array(IDS)))
    with pytest.raises(UserError, match=r"ids \(3,\) .* vectors \(2, 5\); valid: ids \[N\]"):
        read_embeddings(npz(path, ids=np.array(IDS), vectors=VECTORS[:2]))
    with pytest.raises(UserError, match="holds no embeddings"):
        read_embeddings(npz(path, ids=np.array([], "U1"), vectors=VECTORS[:0]))
    with pytest.raises(UserError, match="'id1/b' appears twice"):
        read_embeddings(npz(path, ids=np.array(["id1/b"] * 3), vectors=VECTORS))
    broken = VECTORS.copy()
    broken[1, 2] = np.nan
    with pytest.raises(UserError, match="1 of 3 embeddings are not finite, the first is 'id1/b'"):
        read_embeddings(npz(path, ids=np.array(IDS), vectors=broken))
    with pytest.raises(UserError, match=r"valid: one vector of floating-point numbers per utterance"):
        read_embeddings(npz(path, ids=np.array(IDS), vectors=VECTORS.astype(int)))


def test_folders_and_names_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VECTORS[0])
    np.save(tmp_path / "b.npy", VECTORS[0, :3])
    with pytest.raises(UserError, match="the embedding of 'b' has size 3, that of 'a' has 5"):
        read_embeddings(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        read_embeddings(tmp_path / "none")
    (tmp_path / "e.csv").write_text("")
    with pytest.raises(UserError, match=r"ends in '.csv'; valid: an .npz with ids and vectors, a Kaldi .ark"):
        read_embeddings(tmp_path / "e.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no embeddings"),
        (b"a " + binary(VECTORS[0])[:-3], "the archive ends within 'a'"),
        (b"a " + binary(VECTORS[0], b"FM "), "'a' is a matrix; valid: vectors"),
        (b"a " + binary(VECTORS[0], b"XX "), "'a' at byte 2 is not a vector of floats"),
        (b"a [ 1 2\n", r"no vector after 'a'; valid: Kaldi's binary form, or 'key \[ 1.5 -2 \]'"),
        (b"a [ 1 x ]\n", "the vector of 'a' holds something other than numbers"),
        (b"\xff\xfe a", "not a Kaldi archive, or damaged"),
    ],
)
def test_damaged_archives_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "e.ark").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_embeddings(tmp_path / "e.ark")


def test_tables_never_run_commands(tmp_path: Path) -> None:
    (tmp_path / "e.scp").write_text(f"a touch {tmp_path}/ran |\n")
    with pytest.raises(UserError, match=r"e.scp:1: .*valid: 'key archive:offset'. Commands are not run"):
        read_embeddings(tmp_path / "e.scp")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "e.scp").write_text("a none.ark:5\n")
    with pytest.raises(UserError, match=r"none.ark: the archive cannot be read \(No such file"):
        read_embeddings(tmp_path / "e.scp")
