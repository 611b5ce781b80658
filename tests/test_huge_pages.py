"""The restart of a program with huge pages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from pathlib import Path
from mqmha_jax import huge_pages

huge_pages._KERNEL = Path(sys.argv[1])
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.argv[2:], sys.flags.utf8_mode, flush=True)
huge_pages.restart_with_huge_pages()
print("runs", flush=True)
"""


def run(
    tmp_path: Path,
    kernel: str | None,
    tunables: str | None = None,
    *,
    text: str = PROGRAM,
    file: str = "",
) -> list[str]:
    """Starts a program that restarts itself; returns the lines it prints."""
    program, choice = tmp_path / "program.py", tmp_path / "enabled"
    program.write_text(text)
    if kernel is not None:
        choice.write_text(kernel)
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    if tunables is not None:
        environment["GLIBC_TUNABLES"] = tunables
    command = [sys.executable, "-X", "utf8", file or str(program), str(choice), "a b", "--x"]
    with program.open() as stdin:
        done = subprocess.run(command, env=environment, check=True, stdin=stdin, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


def test_the_same_program_starts_once_more_with_huge_pages(tmp_path: Path) -> None:
    first, second, end = run(tmp_path, "always [madvise] never\n")
    pid = first.split()[0]
    assert first == f"{pid} None ['a b', '--x'] 1"
    assert second == f"{pid} glibc.malloc.hugetlb=1 ['a b', '--x'] 1"
    assert end == "runs"


def test_options_of_the_user_stay(tmp_path: Path) -> None:
    _, second, _ = run(tmp_path, "always [madvise] never\n", "glibc.malloc.arena_max=2")
    assert " glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1 " in second


@pytest.mark.parametrize(
    ("kernel", "tunables"),
    [
        ("always [madvise] never\n", "glibc.malloc.hugetlb=0"),
        ("[always] madvise never\n", None),
        ("always madvise [never]\n", None),
        (None, None),
    ],
    ids=["the user decides", "all have them", "nobody has them", "another system"],
)
def test_nothing_happens_where_it_would_not_help(tmp_path: Path, kernel: str | None, tunables: str | None) -> None:
    first, end = run(tmp_path, kernel, tunables)
    assert (first.split()[1], end) == (str(tunables), "runs")


@pytest.mark.parametrize(
    "how",
    [
        {"file": "-"},
        {"text": PROGRAM.replace("huge_pages.restart", "sys.argv = ['mqmha', 'train']\nhuge_pages.restart")},
        {"text": PROGRAM.replace("huge_pages.restart", "sys.executable = ''\nhuge_pages.restart")},
    ],
    ids=["from standard input, which is read already", "code sets the arguments", "Python does not know its path"],
)
def test_a_program_that_cannot_be_started_again_runs_on(tmp_path: Path, how: dict[str, str]) -> None:
    first, end = run(tmp_path, "always [madvise] never\n", **how)
    assert (first.split()[1], end) == ("None", "runs")
