"""The log of a run: damaged lines are reported and kept aside, all others stay."""

import json
from pathlib import Path

import pytest

from mqmha_jax.runs.log_lines import read_log
from mqmha_jax.runs.metrics_log import MetricsLog


def write_steps(workdir: Path, first: int, last: int) -> None:
    with MetricsLog(workdir, first_step=first) as log:
        for step in range(first + 1, last + 1):
            log.write(step, "train", {"loss": 1 / step})


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A run of six steps."""
    write_steps(tmp_path, 0, 6)
    return tmp_path


def damage(workdir: Path, line: int, old: str, new: str) -> None:
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("".join(lines))


def steps(workdir: Path) -> list[int]:
    return [line["step"] for line in read_log(workdir)]


@pytest.mark.parametrize(
    ("old", "new"),
    [("{", ""), ('"loss": 0.3', '"loss": 0.9'), ('"step": 3', '"step": 5'), ("crc32", "crc31"), ("train", "dev")],
)
def test_a_damaged_line_is_left_out_and_reported(
    old: str, new: str, workdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(workdir, 3, old, new)
    assert steps(workdir) == [1, 2, 4, 5, 6]
    assert "metrics.jsonl: line 3 cannot be read and is left out" in caplog.text


def test_a_resume_keeps_the_lines_after_a_damaged_one_and_puts_it_aside(
    workdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(workdir, 2, "{", "[" * 10_000)
    write_steps(workdir, 5, 7)
    assert steps(workdir) == [1, 3, 4, 5, 6, 7]
    assert (workdir / "metrics.jsonl.damaged").read_text().startswith("[[[")
    assert "1 damaged lines (2) are now in" in caplog.text


def test_a_log_that_is_deleted_while_a_run_writes_goes_on_in_a_new_file(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, first_step=0) as log:
        log.write(1, "train", {"loss": 1.0})
        (tmp_path / "metrics.jsonl").unlink()
        log.write(2, "train", {"loss": 0.5})
    assert steps(tmp_path) == [2]


def test_damaged_lines_of_several_resumes_are_all_kept(workdir: Path) -> None:
    damage(workdir, 2, "{", "first")
    before = (workdir / "metrics.jsonl").read_bytes()
    write_steps(workdir, 6, 7)
    (workdir / "metrics.jsonl").write_bytes(before)  # a crash between the two files
    damage(workdir, 4, "{", "second")
    write_steps(workdir, 6, 7)
    lines = (workdir / "metrics.jsonl.damaged").read_text().splitlines()
    assert [line.partition('"')[0] for line in lines] == ["first", "second"]


def test_a_line_that_is_being_written_is_no_damage(workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = workdir / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])
    assert steps(workdir) == [1, 2, 3, 4, 5]
    assert not caplog.text


def test_a_log_of_a_version_without_checksums_is_read(workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = workdir / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({k: v for k, v in line.items() if k != "crc32"}) + "\n" for line in lines))
    assert steps(workdir) == [1, 2, 3, 4, 5, 6]
    write_steps(workdir, 6, 7)
    assert steps(workdir) == [1, 2, 3, 4, 5, 6, 7]
    assert all("crc32" in line for line in path.read_text().splitlines())
    assert not caplog.text
