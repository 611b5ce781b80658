"""The array job: each task makes its share, and a wrong array is named."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.pieces import parse_range
from tests.support.paths import ROOT

SCRIPT = ROOT / "launch" / "prepare_array.sbatch"
CORPUS = ("folder", "a corpus", "$HOME/'out'", "--seed", "3")


def run(*arguments: str, status: int = 0, **variables: str) -> tuple[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")} | variables
    done = subprocess.run(["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def array(task: int, first: int = 0, last: int = 2, count: int = 3) -> dict[str, str]:
    values = {"ID": task, "MIN": first, "MAX": last, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def test_the_tasks_of_an_array_make_everything_once(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "import sys; print(sys.argv[1:])" "$@"\n')
    program.chmod(0o755)
    made: list[int] = []
    for task in range(3):
        output, _ = run(*CORPUS, PYTHON=str(program), **array(task))
        words = eval(output)
        assert words[:-1] == ["-m", "data_prep", *CORPUS, "--no-progress", "--shard-range"]
        made += parse_range(words[-1], 10)
    assert made == list(range(10))
    printed, _ = run("--dry-run", *CORPUS, PYTHON=str(program), **array(1))
    assert shlex.split(printed) == [str(program), "-m", "data_prep", *CORPUS, "--no-progress", "--shard-range", "1/3"]
    assert shlex.split(run("--dry-run", *CORPUS)[0])[-1] == "0/1"


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ((), {}, "which corpus?"),
        (CORPUS, {}, "this is an array job: sbatch --array=0-15"),
        (CORPUS, array(1, first=1, last=3), "the array is 1-3 with 3 tasks; shares are counted from 0 without gaps"),
        (CORPUS, array(0, last=4), "the array is 0-4 with 3 tasks"),
    ],
)
def test_a_wrong_array_is_named(arguments: tuple[str, ...], variables: dict[str, str], message: str) -> None:
    assert message in run(*arguments, status=2, **variables)[1]
