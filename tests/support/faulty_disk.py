"""A library that makes file operations fail in the processes that preload it; see ``faulty_disk.c``."""

import shutil
import subprocess
from pathlib import Path

COUNT, CRASH_BEFORE, CRASH_AFTER, NO_SPACE, IO_ERROR = range(5)
CRASHED = 137


def build(directory: Path) -> Path:
    """Compiles the library into a directory; skips the test if the machine has no compiler."""
    import pytest

    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler, cc")
    library = directory / "faulty_disk.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library
