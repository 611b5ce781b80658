"""Files that are replaced whole: several writers at once, killed writers, and outputs that cannot be written."""

import errno
import json
import multiprocessing
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from mqmha_jax import atomic
from mqmha_jax.atomic import (
    check_new_directory,
    check_writable,
    check_writable_directory,
    making_directory,
    replacing,
    write_bytes,
    write_json,
    write_text,
)
from mqmha_jax.errors import UserError

WRITES = 50


def write_often(path: Path, fill: int) -> None:
    for _ in range(WRITES):
        write_json(path, [fill] * 1000)


def read_often(path: Path, stop: threading.Event, torn: list[str]) -> None:
    while not stop.is_set():
        text = path.read_text()
        if len(set(json.loads(text))) != 1:
            torn.append(text)


def test_two_processes_and_a_thread_write_one_file_and_a_reader_sees_no_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    write_json(path, [0] * 1000)
    stop, torn = threading.Event(), []
    reader = threading.Thread(target=read_often, args=(path, stop, torn))
    reader.start()
    processes = [multiprocessing.get_context("spawn").Process(target=write_often, args=(path, i)) for i in (1, 2)]
    for process in processes:
        process.start()
    write_often(path, 3)
    for process in processes:
        process.join()
    stop.set()
    reader.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert not torn
    assert [name.name for name in tmp_path.iterdir()] == ["numbers.json"]


def test_what_a_killed_writer_left_goes_with_the_next_write_and_a_live_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "text"
    (tmp_path / ".partial-0badf00d-text").write_text("of a process that was killed")
    with replacing(path) as slow:
        slow.write_text("slow")
        write_text(path, "fast")
        assert path.read_text() == "fast"
    assert path.read_text() == "slow"
    assert [name.name for name in tmp_path.iterdir()] == ["text"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert [name.name for name in tmp_path.iterdir()] == ["text"]


def test_a_directory_appears_whole_and_a_killed_one_goes(tmp_path: Path) -> None:
    (tmp_path / ".partial-0badf00d-made" / "inner").mkdir(parents=True)
    with making_directory(tmp_path / "made") as directory:
        (directory / "file").touch()
        make_one(tmp_path / "other")
        assert directory.exists()
        assert not (tmp_path / "made").exists()
    shutil.rmtree(tmp_path / "other")
    assert (tmp_path / "made" / "file").exists()
    assert [name.name for name in tmp_path.iterdir()] == ["made"]
    with pytest.raises(UserError, match=r"made cannot be written \(Directory not empty\)\. Give another directory"):
        make_one(tmp_path / "made")
    assert [name.name for name in tmp_path.iterdir()] == ["made"]


def make_one(path: Path) -> None:
    with making_directory(path) as directory:
        (directory / "file").touch()


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_replaced_file_keeps_its_permissions_while_it_is_written_and_afterwards(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "voices"
    path.write_text("old")
    path.chmod(mode)
    with replacing(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == mode
        temporary.write_text("new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", mode)
    for write in (lambda: write_text(path, "text"), lambda: write_bytes(path, b"bytes"), lambda: write_json(path, {})):
        write()
        assert stat.S_IMODE(path.stat().st_mode) == mode
    (tmp_path / "link").symlink_to(path)
    write_text(tmp_path / "link", "text")
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_directory_in_place_of_an_empty_one_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices").chmod(0o700)
    with making_directory(tmp_path / "voices") as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "voices").stat().st_mode) == 0o700


def test_a_new_file_and_a_new_directory_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    (tmp_path / "folder").mkdir()
    write_text(tmp_path / "file", "text")
    make_one(tmp_path / "made")
    for usual, ours in (("usual", "file"), ("folder", "made")):
        assert (tmp_path / ours).stat().st_mode == (tmp_path / usual).stat().st_mode


@pytest.mark.parametrize("check", [check_writable, lambda path: write_text(path, "")], ids=["before", "at the end"])
def test_outputs_that_cannot_be_written_are_refused_with_the_reason(check, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    os.mkfifo(tmp_path / "pipe")
    for path, message in [
        (tmp_path, r"is a directory; give the path of a file, such as .*/NAME\."),
        (tmp_path / "pipe", r"pipe is a device or a pipe; give the path of a file"),
        (Path("/dev/null"), r"/dev/null is a device or a pipe"),
        (tmp_path / "file" / "inside", r"inside cannot be written \(.*\)\. Choose another"),
        (Path("/proc/none/file"), r"/proc/none/file cannot be written \(No such file"),
        (tmp_path / ("x" * 300), r"cannot be written \(File name too long\)"),
    ]:
        with pytest.raises(UserError, match=message):
            check(path)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_write_protected_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("kept")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as it is for all but root
    with pytest.raises(UserError, match=r"file is write-protected.*chmod u\+w"):
        check_writable(path)
    with pytest.raises(UserError, match="write-protected"):
        write_text(path, "other")
    assert path.read_text() == "kept"


def test_a_full_disk_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "sync", full)
    with pytest.raises(
        UserError, match=r"out cannot be written \(No space left on device\).* no work has been done yet"
    ):
        check_writable(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_checking_makes_the_directory_and_changes_nothing_else(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "out.json")
    assert not list((tmp_path / "new").iterdir())
    write_text(tmp_path / "old", "kept")
    check_writable(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "kept"
    check_writable_directory(tmp_path / "made" / "here")
    assert (tmp_path / "made" / "here").is_dir()
    with pytest.raises(UserError, match=r"old is a file; the output is a directory\. Give another name\."):
        check_writable_directory(tmp_path / "old")


def test_files_of_a_directory_and_a_new_directory_are_checked(tmp_path: Path) -> None:
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    check_writable_directory(tmp_path / "out", "metrics.json")
    with pytest.raises(UserError, match=r"report\.html is a directory"):
        check_writable_directory(tmp_path / "out", "metrics.json", "report.html")
    check_new_directory(tmp_path / "deep" / "new")
    assert not list((tmp_path / "deep").iterdir())
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("out", "link"):
        with pytest.raises(UserError, match=rf"{name} already exists\. Give a new directory, or remove this one"):
            check_new_directory(tmp_path / name)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"new cannot be written \(.*\)\. Choose another output"):
        check_new_directory(tmp_path / "file" / "new")
