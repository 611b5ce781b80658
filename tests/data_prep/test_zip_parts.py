"""Zip archives in parts: unpacked whole, resumed, and refused when damaged."""

import io
import itertools
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import zip_parts
from data_prep.archives import extract
from data_prep.zip_parts import JoinedFiles, list_zip, unpack_zip
from mqmha_jax.errors import UserError

FILES = {
    f"wav/id1000{speaker}/video/0000{number}.wav": speaker * 5_000 + number for speaker in range(3) for number in (1, 2)
}


def write_parts(folder: Path, number: int) -> list[Path]:
    content = io.BytesIO()
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("wav/", "")
        for name, size in FILES.items():
            archive.writestr(name, rng.bytes(size))
    size = -(-len(content.getvalue()) // number)
    paths = [folder / f"archive_part{letter}" for letter in "abcdefgh"[:number]]
    for place, path in enumerate(paths):
        path.write_bytes(content.getvalue()[place * size : (place + 1) * size])
    return paths


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", [1, 3, 7])
def test_parts_are_one_archive(tmp_path: Path, number: int) -> None:
    parts = write_parts(tmp_path, number)
    assert {member.filename: member.file_size for member in list_zip(parts)} == FILES
    assert unpack_zip(parts, tmp_path / "out") == len(FILES)
    whole = io.BytesIO(b"".join(path.read_bytes() for path in parts))
    assert contents(tmp_path / "out") == {name: zipfile.ZipFile(whole).read(name) for name in FILES}


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    reads=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), max_size=6),
)
def test_joined_files_read_as_their_concatenation(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], reads: list[tuple[int, int]]
) -> None:
    folder, letters = tmp_path_factory.mktemp("parts"), itertools.cycle(b"abcdefghijk")
    paths = [folder / str(number) for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(bytes(itertools.islice(letters, size)))
    ours = io.BufferedReader(JoinedFiles(paths))
    theirs = io.BytesIO(b"".join(path.read_bytes() for path in paths))
    for place, count in reads:
        assert ours.seek(place) == theirs.seek(place)
        assert ours.read(count) == theirs.read(count)
        assert ours.tell() == theirs.tell()
    assert ours.seek(0, io.SEEK_END) == theirs.seek(0, io.SEEK_END)


def test_an_interrupted_unpacking_resumes_and_replaces_what_a_power_failure_spoilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, out = write_parts(tmp_path, 3), tmp_path / "out"
    unpack_zip(parts, tmp_path / "whole")
    done: list[str] = []

    def stop(member: zipfile.ZipInfo) -> None:
        done.append(member.filename)
        if len(done) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack_zip(parts, out, progress=stop)
    assert sorted(contents(out)) == sorted(done)
    spoilt = out / done[2]
    spoilt.write_bytes(bytes(spoilt.stat().st_size))  # its size and none of its content
    extracted: list[str] = []
    extract = zip_parts._extract
    monkeypatch.setattr(
        zip_parts,
        "_extract",
        lambda parts, archive, member, path: (extracted.append(member.filename), extract(parts, archive, member, path)),
    )
    unpack_zip(parts, out)
    assert sorted(extracted) == sorted({*FILES} - {*done} | {done[2]})
    assert contents(out) == contents(tmp_path / "whole")


def test_a_missing_or_damaged_part_is_named(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, 3)
    with pytest.raises(UserError, match=r"archive_parta and its other parts: not a whole zip archive .*missing"):
        unpack_zip(parts[:2], tmp_path / "out")
    missing = parts[1].stat().st_size
    with pytest.raises(UserError, match=rf"{missing:,} bytes .* missing\). .*\(here: archive_parta, archive_partc\)"):
        list_zip([parts[0], parts[2]])
    content = bytearray(parts[1].read_bytes())
    content[len(content) // 2] ^= 1
    parts[1].write_bytes(content)
    with pytest.raises(UserError, match=r"archive_parta: '.*wav' cannot be unpacked .*download it again"):
        unpack_zip(parts, tmp_path / "out")


def rewrite(path: Path, change: Callable[[bytearray, int], None]) -> None:
    """Changes an archive of one file; the change gets the place of the file's local header and its directory entry."""
    content = bytearray(path.read_bytes())
    for place in (0, content.index(b"PK\1\2") + 2):  # the entry has the same fields two bytes later
        change(content, place)
    path.write_bytes(content)


def damage(content: bytearray, place: int) -> None:
    content[45:60] = bytes(15)  # within the compressed bytes: no longer a deflate stream


def encrypt(content: bytearray, place: int) -> None:
    content[place + 6] |= 1


def deflate64(content: bytearray, place: int) -> None:
    content[place + 8] = 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage, r"cannot be unpacked \(Error -3 .*download it again"),
        (encrypt, r"cannot be unpacked here \(.*encrypted.* another program"),
        (deflate64, r"cannot be unpacked here \(.*not supported.* another program"),
    ],
)
def test_a_file_that_cannot_be_unpacked_is_named_and_leaves_nothing(
    tmp_path: Path, change: Callable[[bytearray, int], None], message: str
) -> None:
    path = tmp_path / "one.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", b"some speech " * 500 + np.random.default_rng(0).bytes(5_000))
    rewrite(path, change)
    with pytest.raises(UserError, match=rf"one\.zip: 'a\.wav' {message}"):
        unpack_zip([path], tmp_path / "out")
    assert contents(tmp_path / "out") == {}


def test_damaged_lzma_is_named(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(20_000)
    with zipfile.ZipFile(tmp_path / "one.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.wav", content)
    with tarfile.open(tmp_path / "one.tar.xz", "w:xz") as tar:
        member = tarfile.TarInfo("a.wav")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    for path in (tmp_path / "one.zip", tmp_path / "one.tar.xz"):
        damaged = bytearray(path.read_bytes())
        damaged[60:90] = bytes(30)
        path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"one\.zip: 'a\.wav' cannot be unpacked .*download it again"):
        unpack_zip([tmp_path / "one.zip"], tmp_path / "zip")
    with pytest.raises(UserError, match=r"one\.tar\.xz: cannot be unpacked .*download it again"):
        extract(tmp_path / "one.tar.xz", tmp_path / "tar")
    assert contents(tmp_path / "zip") == contents(tmp_path / "tar") == {}


def test_an_archive_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    for name, mode in (("../evil.wav", 0), ("/evil.wav", 0), ("link", stat.S_IFLNK)):
        path = tmp_path / "bad.zip"
        with zipfile.ZipFile(path, "w") as archive:
            member = zipfile.ZipInfo(name)
            member.external_attr = (mode | 0o644) << 16
            archive.writestr(member, "x")
        with pytest.raises(UserError, match="Do not trust this archive"):
            unpack_zip([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()
