"""``mqmha train --deterministic`` reaches XLA: its flags are set before JAX is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# Ends the program at the first import of JAX, with what XLA would read.
PROGRAM = """
import os, sys

class AtJax:
    def find_spec(self, name, path=None, target=None):
        if name == "jax":
            print(os.environ.get("XLA_FLAGS", ""))
            sys.exit()

sys.meta_path.insert(0, AtJax())
from mqmha_jax.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("option", ["--deterministic", "--quiet"])
def test_the_flags_are_there_before_jax_is(option: str, tmp_path: Path) -> None:
    given = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "train", "laptop", "--workdir", "run", option],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": given},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    deterministic = ["--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0"]
    assert done.stdout.split() == [given, *(deterministic if option == "--deterministic" else [])]
