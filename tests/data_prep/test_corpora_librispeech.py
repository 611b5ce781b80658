"""LibriSpeech in miniature; a local server sends its archives, which are resumed, checked and unpacked in place."""

import functools
import hashlib
import http.server
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.archives import extract
from data_prep.corpora import CORPORA, librispeech
from data_prep.download import download
from mqmha_jax.errors import UserError
from tests.support.tiny_audio import write_all

SPEAKERS = """;ID  |SEX| SUBSET           |MINUTES| NAME
14   | F | dev-clean-2      | 25.03 | Kristin LeMoine
84   | M | dev-clean-2      | 25.10 | Somebody | with a bar
"""
FILES = [
    "dev-clean-2/14/208/14-208-0000.flac",
    "dev-clean-2/14/212/14-212-0001.flac",
    "dev-clean-2/84/121123/84-121123-0000.flac",
    "train-clean-5/19/198/19-198-0000.flac",
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "corpus" / "LibriSpeech"
    write_all(root, FILES)
    (root / "SPEAKERS.TXT").write_text(SPEAKERS)
    (root / "dev-clean-2/14/208/14-208.trans.txt").write_text("14-208-0000 HELLO\n")
    return root


def test_names_chapters_and_genders(corpus: Path) -> None:
    recordings = CORPORA["librispeech"](corpus)
    assert [recording.utterance for recording in recordings] == [Path(name).stem for name in FILES]
    assert recordings[1].speaker == "14"
    assert recordings[1].attributes == {"session": "212", "subset": "dev-clean-2", "gender": "f"}
    assert recordings[3].attributes == {"session": "198", "subset": "train-clean-5"}
    assert recordings[1].source == corpus / FILES[1]
    assert CORPORA["librispeech"](corpus.parent, subset=["dev-clean-2"]) == recordings[:3]


def test_mistakes_are_named(corpus: Path, tmp_path: Path) -> None:
    right = re.escape(str(corpus))
    for inside in ("dev-clean-2", "dev-clean-2/14", "dev-clean-2/14/208"):
        with pytest.raises(UserError, match=f"a part of the corpus. Give the folder around it, {right}"):
            CORPORA["librispeech"](corpus / inside)
    with pytest.raises(UserError, match=r"has no subset 'test-clean'; it has dev-clean-2, train-clean-5\. Get it with"):
        CORPORA["librispeech"](corpus, subset=["test-clean"])
    with pytest.raises(UserError, match=r"--download NAME, or from https://www\.openslr\.org/12/"):
        CORPORA["librispeech"](tmp_path / "nowhere")
    write_all(corpus, ["dev-clean-2/14/208/stray.flac"])
    with pytest.raises(UserError, match=r"stray\.flac is out of place: recordings of LibriSpeech"):
        CORPORA["librispeech"](corpus)


# ---- the network


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Sends files, whole or from a byte on; remembers the requests."""

    asked: list[str]
    cut_at: int | None = None

    def do_GET(self) -> None:
        path = Path(self.directory) / self.path.lstrip("/")
        self.asked.append(self.headers.get("Range", "all"))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.cut_at])

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, type[_Handler]]]:
    """Serves ``tmp_path/www``; yields its address and the class that answers."""
    (tmp_path / "www").mkdir()
    handler = type("Handler", (_Handler,), {"asked": []})
    answer = functools.partial(handler, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), answer) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", handler
        running.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


CONTENT = bytes(range(256)) * 100


def test_a_download_is_complete_and_happens_once(tmp_path: Path, server: tuple[str, type[_Handler]]) -> None:
    address, handler = server
    (tmp_path / "www" / "a").write_bytes(CONTENT)
    for _ in range(2):
        download(f"{address}/a", tmp_path / "new" / "a", md5=md5(CONTENT))
    assert (tmp_path / "new" / "a").read_bytes() == CONTENT
    assert handler.asked == ["all"]


def test_an_interrupted_download_resumes(tmp_path: Path, server: tuple[str, type[_Handler]]) -> None:
    address, handler = server
    (tmp_path / "www" / "a").write_bytes(CONTENT)
    handler.cut_at = 1_000
    with pytest.raises(
        UserError, match=r"the download to .* broke off \(24600 bytes are missing\)\. Run the command again to resume"
    ):
        download(f"{address}/a", tmp_path / "a", md5=md5(CONTENT))
    assert not (tmp_path / "a").exists()
    handler.cut_at = None
    download(f"{address}/a", tmp_path / "a", md5=md5(CONTENT))
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert handler.asked == ["all", "bytes=1000-"]


def test_a_download_that_ended_before_its_name_was_given_is_taken(
    tmp_path: Path, server: tuple[str, type[_Handler]]
) -> None:
    address, handler = server
    (tmp_path / "www" / "a").write_bytes(CONTENT)
    (tmp_path / ".partial-a").write_bytes(CONTENT)
    download(f"{address}/a", tmp_path / "a", md5=md5(CONTENT))
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert handler.asked == [f"bytes={len(CONTENT)}-"]


def test_content_with_a_wrong_checksum_is_removed(tmp_path: Path, server: tuple[str, type[_Handler]]) -> None:
    (tmp_path / "www" / "a").write_bytes(CONTENT)
    with pytest.raises(
        UserError, match=f"the download has the MD5 {md5(CONTENT)}, but its owners publish 0123.*Try again"
    ):
        download(f"{server[0]}/a", tmp_path / "a", md5="0123")
    assert [path.name for path in tmp_path.iterdir()] == ["www"]


def test_a_missing_network_and_a_missing_file_are_named(tmp_path: Path, server: tuple[str, type[_Handler]]) -> None:
    with pytest.raises(UserError, match=r"/b: can ?not be downloaded \(Not Found\).*copy the file to .*/b yourself"):
        download(f"{server[0]}/b", tmp_path / "b", md5="0")
    with pytest.raises(UserError, match=r"can ?not be downloaded \(.*\)\. Check the network and try again"):
        download("http://127.0.0.1:9/a", tmp_path / "a", md5="0")


def test_a_subset_is_fetched_once_and_joins_the_others(
    corpus: Path, tmp_path: Path, server: tuple[str, type[_Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, handler = server
    archive = tmp_path / "www" / "31" / "dev-clean-2.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as file:
        for name in ("SPEAKERS.TXT", "dev-clean-2"):
            file.add(corpus / name, f"LibriSpeech/{name}")
    monkeypatch.setitem(librispeech.ARCHIVES, "dev-clean-2", ("31", md5(archive.read_bytes())))
    monkeypatch.setattr(librispeech, "OPENSLR", address)
    target = tmp_path / "target"
    write_all(target / "LibriSpeech", FILES[3:])
    for _ in range(2):
        recordings = CORPORA["librispeech"](target, download=["dev-clean-2"])
        assert [recording.utterance for recording in recordings] == [Path(name).stem for name in FILES]
        assert recordings[0].attributes["gender"] == "f"
    assert handler.asked == ["all"]
    assert [path.name for path in target.iterdir()] == ["LibriSpeech"]
    with pytest.raises(UserError, match=r"Unknown subset of LibriSpeech 'dev-clean-3'\. Did you mean 'dev-clean"):
        CORPORA["librispeech"](target, download=["dev-clean-3"])


# ---- archives


def tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as file:
        for member in members:
            member.size = 5 if member.isreg() else 0
            file.addfile(member, io.BytesIO(b"hello") if member.isreg() else None)
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "members",
    [
        [tarfile.TarInfo("../outside.txt")],
        [tarfile.TarInfo("a/../../outside.txt")],
        [link("a", ".."), tarfile.TarInfo("a/outside.txt")],
        [link("a", "/etc/passwd")],
        [link("a", "good.txt")],
        [link("a", "good.txt", tarfile.LNKTYPE)],
    ],
    ids=["above", "above after a folder", "through a link", "a link to elsewhere", "a link", "a hard link"],
)
def test_archives_stay_inside_the_target(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    archive = tar(tmp_path / "a.tar", tarfile.TarInfo("good.txt"), *members)
    with pytest.raises(UserError, match=r"a\.tar: is not unpacked: .*Do not trust this archive"):
        extract(archive, tmp_path / "target")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar", "target"]


def test_an_absolute_name_is_taken_as_a_relative_one(tmp_path: Path) -> None:
    extract(tar(tmp_path / "a.tar", tarfile.TarInfo(f"{tmp_path}/b.txt")), tmp_path / "target")
    assert not (tmp_path / "b.txt").exists()
    assert (tmp_path / "target" / str(tmp_path).lstrip("/") / "b.txt").read_text() == "hello"


def test_a_damaged_archive_leaves_nothing(tmp_path: Path) -> None:
    whole = tmp_path / "whole.tar.gz"
    with tarfile.open(whole, "w:gz") as file:
        for number in range(20):
            info = tarfile.TarInfo(f"{number}.bin")
            info.size = 10_000
            file.addfile(info, io.BytesIO(hashlib.sha256(b"%d" % number).digest() * 313))
    for damaged in (whole.read_bytes()[:-900], b"no archive at all"):
        (tmp_path / "a.tar.gz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.tar\.gz: can ?not be unpacked .*download it again"):
            extract(tmp_path / "a.tar.gz", tmp_path / "target")
        assert not any((tmp_path / "target").glob("*"))


@pytest.mark.parametrize(("num_files", "num_bytes"), [(1, 4_000_000), (4_000, 0)], ids=["zeros", "empty files"])
def test_an_archive_that_expands_too_far_is_refused(
    num_files: int, num_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.archives.HARMLESS_BYTES", 1_000_000)
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as file:
        for number in range(num_files):
            info = tarfile.TarInfo(f"{number}.bin")
            info.size = num_bytes
            file.addfile(info, io.BytesIO(bytes(num_bytes)))
    with pytest.raises(UserError, match=r"'\d+\.bin' would expand it to more than 100 times its size\. Do not trust"):
        extract(tmp_path / "a.tar.xz", tmp_path / "target")
    assert not any((tmp_path / "target").iterdir())


def test_an_archive_larger_than_the_free_disk_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tar(tmp_path / "a.tar", tarfile.TarInfo("a.txt"), tarfile.TarInfo("b.txt"))
    usage = type("Usage", (), {"free": 600})()
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"needs more than the 0\.0 GB that are free in .*target\. Free some space"):
        extract(archive, tmp_path / "target")
    assert not any((tmp_path / "target").iterdir())


@pytest.mark.parametrize("name", ["corpus/14", "corpus/14/208/a.flac"])
def test_a_file_where_the_archive_has_a_folder_or_the_reverse_is_refused(tmp_path: Path, name: str) -> None:
    archive = tar(tmp_path / "a.tar", tarfile.TarInfo("corpus/1.flac"), tarfile.TarInfo("corpus/14/208"))
    there = tmp_path / "target" / name
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    with pytest.raises(UserError, match=r"a\.tar: is not unpacked: it holds a \w+ in place of .*14.*Move that away"):
        extract(archive, tmp_path / "target")
    assert [path for path in (tmp_path / "target").rglob("*") if path.is_file()] == [there], "nothing is left"


def test_existing_files_are_kept(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "good.txt").write_text("mine")
    extract(tar(tmp_path / "a.tar", tarfile.TarInfo("good.txt"), tarfile.TarInfo("new/b.txt")), tmp_path / "target")
    assert (tmp_path / "target" / "good.txt").read_text() == "mine"
    assert (tmp_path / "target" / "new" / "b.txt").read_text() == "hello"
