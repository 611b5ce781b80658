"""Ctrl-C ends a command with one line and status 130, whatever it is doing; the library leaves Ctrl-C alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.cli import STOPPED
from mqmha_jax.runs.network_run import write_network_run
from tests.support.tiny_audio import write_audio
from tests.support.voices import CONFIG, make_variables, voice


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupted")
    write_network_run(folder / "run", CONFIG, {"imported": "x"}, make_variables(), head={})
    write_audio(folder / "a.wav", voice(1, 220))
    return folder


def start(folder: Path, line: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, *options, "-m", "mqmha_jax", *line.split()]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def interrupt(process: subprocess.Popen[str]) -> list[str]:
    """Sends SIGINT; returns the lines on standard error that come after it, without the times of imports."""
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    return [line for line in said.splitlines() if line and not line.startswith("import time:")]


@pytest.mark.parametrize(
    ("line", "moment"),
    [
        ("verify run a.wav a.wav", "click"),
        ("verify run a.wav a.wav", "jax._src.core"),
        ("enrol people anna a.wav --run run", "orbax.checkpoint"),
        ("prep folder audio shards", "data_prep.cli"),
    ],
)
def test_an_interrupt_during_imports_ends_the_command(folder: Path, line: str, moment: str) -> None:
    process = start(folder, line, "-X", "importtime")
    assert process.stderr is not None
    for imported in process.stderr:
        if imported.rpartition("|")[2].strip().startswith(moment):
            break
    said = interrupt(process)
    assert said == ["Aborted."] or (line.startswith("prep") and said == [STOPPED])


def test_an_interrupt_of_the_work_ends_the_command_and_leaves_nothing(folder: Path) -> None:
    (folder / "many").mkdir()
    for number in range(3000):
        os.link(folder / "a.wav", folder / "many" / f"{number}.wav")
    process = start(folder, "embed run many --output e.npz")
    assert process.stderr is not None
    said = ""
    while "file/s" not in said:  # the progress bar
        said += process.stderr.read(1)
    assert interrupt(process)[-1] == "Aborted."
    assert not (folder / "e.npz").exists()


def test_an_ignored_interrupt_stays_ignored_and_an_import_installs_no_handler(folder: Path) -> None:
    program = (
        "import signal, mqmha_jax, mqmha_jax.__main__, mqmha_jax.cli\n"
        "from mqmha_jax.interrupts import end_on_interrupt\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "end_on_interrupt()\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
