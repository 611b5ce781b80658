"""A preparation loses and mixes nothing if it is killed, started twice, shared, or finds a changed corpus."""

import fcntl
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from data_prep.build_command import _summary
from data_prep.build_shards import BuildReport, build_shards
from data_prep.manifest import Recording
from mqmha_jax.config import FbankSpec
from mqmha_jax.data.shard_reader import open_shards
from mqmha_jax.errors import UserError
from tests.support.prep_jobs import MEGABYTES, SPEC, checksums, corpus, killed, start, stumbles, too_loud, wait_until

COUNT = 6


def build(recordings: list[Recording], output: Path, **options: Any) -> BuildReport:
    defaults = {"spec": SPEC, "provenance": {"corpus": "test"}, "num_workers": 0, "max_rejected": 0, "progress": False}
    return build_shards(recordings, output, **({"shard_megabytes": MEGABYTES} | defaults | options))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Returns what a run without interruption writes; the recordings have the same samples as those of ``slow``."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    build(corpus("noise", COUNT), output)
    assert len(list(output.glob("*.array_record*"))) == COUNT
    return without_job(output)


def without_job(output: Path) -> dict[str, str]:
    """Returns checksums without those of the file that names the job: other jobs may make the same samples."""
    return {name: checksum for name, checksum in checksums(output).items() if name != "shards.json"}


def num_parts(output: Path) -> int:
    return len(list((output.parent / f"{output.name}.partial" / "parts").glob("*.npz")))


def kill_and_resume(output: Path, kills: list[float], num_workers: int) -> None:
    """Kills a run once for each delay, in seconds after it finishes one more part."""
    for delay in kills:
        before = num_parts(output)
        process = start(output, "slow", COUNT, 0.05, num_workers=num_workers)
        wait_until(lambda before=before, process=process: num_parts(output) > before or process.poll() is not None)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if output.exists():
            return
        assert num_parts(output) > before, "a finished part was lost"


def test_a_killed_run_resumes_and_gives_the_same_bytes(undisturbed: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "out"
    kill_and_resume(output, [0.0, 0.03], num_workers=0)
    assert not output.exists()
    frames = sorted((tmp_path / "out.partial" / "shards").glob("fbank*"))
    made = {path: path.stat().st_mtime_ns for path in frames[: num_parts(output)]}  # the last may lack its table
    assert len(made) >= 2
    build(corpus("slow", COUNT, 0.05), output)
    assert without_job(output) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for path, time_ns in made.items():
        assert (output / path.name).stat().st_mtime_ns == time_ns, "a finished part was made again"


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_byte(undisturbed: dict[str, str], tmp_path: Path) -> None:
    draw = random.Random(0)
    whole = time.monotonic()
    assert start(tmp_path / "whole", "slow", COUNT, 0.05, num_workers=2).wait() == 0
    whole = time.monotonic() - whole
    for round_ in range(10):
        output = tmp_path / f"out{round_}"
        process = start(output, "slow", COUNT, 0.05, num_workers=2)
        time.sleep(draw.uniform(0.5, 1.05) * whole)
        process.send_signal(signal.SIGKILL)
        process.wait()
        build(corpus("slow", COUNT, 0.05), output)
        assert checksums(output) == checksums(tmp_path / "whole")
        assert not list(tmp_path.glob("*.partial"))


def test_a_kill_between_publishing_and_tidying_up_is_harmless(undisturbed: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "out"
    report = build(corpus("noise", COUNT), output)
    (tmp_path / "out.partial" / "parts").mkdir(parents=True)
    (tmp_path / "out.partial" / "parts" / "00000.npz").write_text("left over")
    (tmp_path / "out.partial" / "job.json").write_text("{")
    assert build(corpus("noise", COUNT), output) == report._replace(was_made=True), "the same command finds its result"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(UserError, match="already exists"):
        build(corpus("noise", COUNT - 1), output)


def test_the_lock_is_closed_before_its_directory_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network disk keeps a file that is open, under another name, so that its directory is not empty."""
    remove, removed = shutil.rmtree, []

    def rmtree_of_network_disk(directory: Path, **options: bool) -> None:
        files = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
        assert not [path for path in files if path.is_relative_to(directory)]
        removed.append(directory)
        remove(directory, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree_of_network_disk)
    report = build(corpus("noise", COUNT), tmp_path / "out")
    (tmp_path / "out.partial").mkdir()
    assert build(corpus("noise", COUNT), tmp_path / "out") == report._replace(was_made=True), (
        "the same command finds its result"
    )
    assert removed == [tmp_path / "out.partial"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_dying_worker_left_is_not_published(tmp_path: Path) -> None:
    """It may still hold its file when the next call makes the same part."""
    build(corpus("noise", COUNT), tmp_path / "out", shard_range="0:3")
    left = tmp_path / "out.partial" / "shards" / ".partial-0badf00d-fbank-train.array_record-00000-of-00006"
    with left.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        build(corpus("noise", COUNT), tmp_path / "out")
    assert not list((tmp_path / "out").glob(".partial*"))


@pytest.mark.parametrize("damage", ["cut frames", "no frames", "cut table"])
def test_a_damaged_part_is_made_again(damage: str, undisturbed: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "out"
    build(corpus("noise", COUNT), output, shard_range="0:3")
    partial = tmp_path / "out.partial"
    frames = sorted((partial / "shards").glob("fbank*"))[1]
    if damage == "no frames":
        frames.unlink()
    else:
        path = frames if damage == "cut frames" else partial / "parts" / "00001.npz"
        path.write_bytes(path.read_bytes()[:100])
    build(corpus("noise", COUNT), output)
    assert without_job(output) == undisturbed


def test_shares_make_the_whole(undisturbed: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "out"
    report = build(corpus("noise", COUNT), output, shard_range="2/3")
    assert (report.num_utterances, report.num_missing) == (2, 4)
    assert not output.exists()
    assert build(corpus("noise", COUNT), output, shard_range="0:2").num_missing == 2
    assert build(corpus("noise", COUNT), output, shard_range="2:4").num_missing == 0
    assert without_job(output) == undisturbed


@pytest.mark.parametrize("text", ["6:9", "3:2", "0:7", "3/3", "-1/3", "all", "1:2:3"])
def test_an_impossible_range_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--shard-range .*is not a range of 6 files. Give A:B with 0 <= A < B <= 6"):
        build(corpus("noise", COUNT), tmp_path / "out", shard_range=text)
    assert not list(tmp_path.iterdir())


def test_two_processes_share_an_output_only_without_overlap(undisturbed: dict[str, str], tmp_path: Path) -> None:
    output, flag = tmp_path / "out", tmp_path / "flag"
    first = start(output, "after", COUNT, flag, shard_range="1:3")
    wait_until(lambda: list((tmp_path / "out.partial" / "shards").glob(".partial*")))
    recordings = corpus("after", COUNT, flag)
    for overlapping in (None, "2:4", "0:2"):
        with pytest.raises(UserError, match=r"Another process is making some of the shards .* of .*out.*--shard-range"):
            build(recordings, output, shard_range=overlapping)
    others = start(output, "after", COUNT, flag, shard_range="3:6")
    wait_until(lambda: len(list((tmp_path / "out.partial" / "shards").glob(".partial*"))) == 2)
    flag.touch()
    assert first.wait() == others.wait() == 0
    assert not output.exists()
    build(recordings, output, shard_range="0:1")
    assert without_job(output) == undisturbed


def test_the_last_piece_does_not_complete_what_another_process_holds(tmp_path: Path) -> None:
    output = tmp_path / "out"
    build(corpus("noise", COUNT), output, shard_range="0:5")
    hold = f"""import fcntl
with open({str(tmp_path / "out.partial" / "lock")!r}, "a") as lock:
    fcntl.lockf(lock, fcntl.LOCK_EX, 1, 0)
    print("held", flush=True)
    input()"""
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        report = build(corpus("noise", COUNT), output, shard_range="5:6")
        other.communicate(b"\n")
    assert (report.num_missing, report.is_complete, output.exists()) == (0, False, False)
    assert _summary(report, output, 0.1).endswith("another process is at work on them and completes the directory.")
    assert build(corpus("noise", COUNT), output).is_complete


def test_tasks_without_pieces_wait_for_nobody_and_hinder_nobody(undisturbed: dict[str, str], tmp_path: Path) -> None:
    """Shares of more tasks than files."""
    output, flag = tmp_path / "out", tmp_path / "flag"
    recordings = corpus("after", COUNT, flag)
    assert build(recordings, output, shard_range="0/12").num_missing == COUNT
    assert (tmp_path / "out.partial" / "job.json").is_file(), "another task may be about to begin there"
    first = start(output, "after", COUNT, flag, shard_range="1/12")
    wait_until(lambda: list((tmp_path / "out.partial" / "shards").glob(".partial*")))
    for empty in ("0/12", "6/12"):
        assert build(recordings, output, shard_range=empty).num_missing == COUNT
    flag.touch()
    assert first.wait() == 0
    build(recordings, output)
    assert without_job(output) == undisturbed


@pytest.mark.parametrize(
    ("recordings", "options", "message"),
    [
        (corpus("noise", COUNT + 1), {}, r"recordings: 6 -> 7"),
        (corpus("noise", COUNT)[::-1], {}, r"recordings' names, sources and columns: \w+... -> \w+"),
        (corpus("noise", COUNT), {"spec": FbankSpec(num_mel_bins=9)}, r"num_mel_bins: 8 -> 9"),
        (corpus("noise", COUNT), {"coding": "uint8"}, r"coding: float16 -> uint8"),
        (corpus("noise", COUNT), {"shard_megabytes": 1.0}, r"shard_megabytes: 0.001 -> 1.0"),
    ],
)
def test_parts_of_another_job_are_refused(
    recordings: list[Recording], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    build(corpus("noise", COUNT), tmp_path / "out", shard_range="0:1")
    with pytest.raises(
        UserError, match=rf"out.partial holds finished parts of another job; .*{message}.*delete this one"
    ):
        build(recordings, tmp_path / "out", **options)


def test_unfinished_parts_of_another_job_are_removed(tmp_path: Path) -> None:
    stale = tmp_path / "out.partial" / "shards" / "fbank-train.array_record-00000-of-00099"
    stale.parent.mkdir(parents=True)
    stale.write_text("of a job that was killed before it noted its first part")
    (tmp_path / "out.partial" / "job.json").write_text('{"num_pieces": 99, "job": {}}')
    build(corpus("noise", 2), tmp_path / "out")
    assert not (tmp_path / "out" / stale.name).exists()


def test_a_job_that_fails_at_once_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_text("no audio")
    broken = [Recording("u", "s", tmp_path / "broken.wav")]
    with pytest.raises(UserError, match="Rejected: 1 recording "):
        build(broken, tmp_path / "out")
    soundfile.write(tmp_path / "broken.wav", np.zeros(8000), 16_000)
    with pytest.raises(UserError, match="Rejected: 1 recording "):
        build(broken, tmp_path / "out")  # the part was finished, without the recording
    assert build(broken, tmp_path / "out", retry_rejected=True).num_utterances == 1


# ---- workers


@pytest.mark.slow
def test_a_dead_worker_is_named_with_its_recording(tmp_path: Path) -> None:
    recordings = corpus("slow", 4, 0.1)
    recordings[2] = Recording("huge", "s", killed)
    with pytest.raises(UserError, match=r"(?s)A worker process died.*--num-workers 1.*were reading.*\d s: huge"):
        build(recordings, tmp_path / "out", num_workers=2)
    recordings[2] = corpus("noise", 3)[2]
    with pytest.raises(UserError, match="holds finished parts of another job"):
        build(recordings, tmp_path / "out")


def test_a_recording_that_takes_too_long_is_left_out(tmp_path: Path) -> None:
    recordings = [*corpus("noise", 2), Recording("hangs", "s", corpus("slow", 1, 60.0)[0].source)]
    started = time.monotonic()
    report = build(recordings, tmp_path / "out", timeout_seconds=0.5, max_rejected=1)
    assert time.monotonic() - started < 30
    assert [(r.utterance, r.path) for r in report.rejected] == [("hangs", "hangs")]
    assert "took longer than 0.5 s" in report.rejected[0].reason


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    process = start(tmp_path / "out", "after", COUNT, tmp_path / "never", num_workers=2)
    wait_until(lambda: len(list((tmp_path / "out.partial" / "shards").glob(".partial*"))) == 2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.kill()
    process.wait()
    wait_until(lambda: not any(running(child) for child in children), seconds=20)


def running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# ---- files


def test_bad_names_and_bad_files_are_listed_and_the_rest_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "a folder" / "speaker one"
    folder.mkdir(parents=True)
    good = folder / "spaces and 'quotes' $HOME;.wav"
    soundfile.write(good, np.random.default_rng(0).normal(0, 0.1, 8000), 16_000)
    cut = folder / "cut.wav"
    cut.write_bytes(good.read_bytes()[:5000])
    (folder / "empty.wav").touch()
    foreign = folder / "caf\udce9.wav"
    foreign.write_bytes(good.read_bytes())
    unreadable = folder / "directory.wav"
    unreadable.mkdir()
    paths = [good, cut, folder / "empty.wav", foreign, unreadable]
    recordings = [Recording(path.relative_to(tmp_path).as_posix(), "speaker one", path) for path in paths]
    report = build(recordings, tmp_path / "out", max_rejected=4)
    shards = open_shards(tmp_path / "out")
    assert shards.utterances == (recordings[0].utterance,)
    reasons = {rejection.path: rejection.reason for rejection in report.rejected}
    assert list(reasons) == [str(path) for path in paths[1:]]
    for path, reason in zip(paths[1:], ("truncated", "empty", "not valid UTF-8", "not a file"), strict=True):
        assert reason in reasons[str(path)]
    assert (tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8").count("\n") == 4
    assert build(recordings, tmp_path / "out", max_rejected=4) == report._replace(was_made=True), (
        "the list comes back, odd bytes included"
    )


def test_whatever_a_recording_does_the_others_are_made(tmp_path: Path) -> None:
    recordings = corpus("noise", 2)
    recordings[1:1] = [Recording("loud", "s", too_loud), Recording("odd", "s", stumbles)]
    report = build(recordings, tmp_path / "out", max_rejected=2)
    assert open_shards(tmp_path / "out").utterances == ("u0", "u1")
    loud, odd = report.rejected
    assert "where full scale is 1" in loud.reason
    assert odd == ("odd", "odd", "cannot be used (KeyError: 'frame 7').")


def test_the_lower_speed_is_the_later_class_in_every_part(tmp_path: Path) -> None:
    from data_prep.versions import VersionPlan

    recordings = [recording._replace(speaker=f"s{9 - seed}") for seed, recording in enumerate(corpus("noise", 3))]
    build(recordings, tmp_path / "out", plan=VersionPlan(speeds=(1.0, 1.1, 0.9)))
    names = ("s7", "s8", "s9")
    expected = tuple(f"{name}{speed}" for speed in ("", "#speed1.1", "#speed0.9") for name in names)
    assert open_shards(tmp_path / "out").speakers == expected
    recordings[0] = recordings[0]._replace(speaker="own#speed")
    report = build(recordings, tmp_path / "other", max_rejected=1)
    assert "marks copies at other speeds" in report.rejected[0].reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not valid JSON"),
        ("[" * 100_000, "is not valid"),
        ("[]", "holds a list"),
        ('{"num_pieces": 3}', "it describes no job"),
        ('{"num_pieces": "3", "job": {}}', "it describes no job"),
        ('{"num_pieces": -3, "job": {}}', "it describes no job"),
    ],
)
def test_parts_of_an_unknown_job_are_refused(content: str, message: str, tmp_path: Path) -> None:
    recordings = corpus("noise", 3)
    build(recordings, tmp_path / "out", shard_range="0:1")
    job = tmp_path / "out.partial" / "job.json"
    job.write_text(content)
    with pytest.raises(UserError, match=rf"job\.json .*{message}.* Delete this directory to start again"):
        build(recordings, tmp_path / "out")
    for part in (tmp_path / "out.partial" / "parts").iterdir():
        part.unlink()
    assert build(recordings, tmp_path / "out").num_utterances == 3, "without parts nothing is lost"
