"""A signal to launch/voxceleb.py reaches its command, which ends first."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.paths import ROOT

PROGRAM = """
import signal, sys
sys.path[:0] = {paths!r}
from voxceleb_commands import pass_on, run_command
signal.signal(signal.SIGTERM, pass_on)
run_command(["sh", "-c", {script!r}])
"""
SCRIPT = "trap 'sleep 0.5; touch saved; exit 1' TERM; touch started; while :; do sleep 0.1; done"


def test_sigterm_ends_the_program_after_its_command_has_saved(tmp_path: Path) -> None:
    program = PROGRAM.format(paths=[str(ROOT / "launch"), str(ROOT)], script=SCRIPT)
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert (tmp_path / "saved").exists()
    finally:
        process.kill()
