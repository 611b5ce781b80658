"""With the TPU's library installed and no TPU, commands say only what is theirs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mqmha_jax.tpu_library import has_tpu, hide_unneeded_tpu_library
from tests.support.paths import ROOT

NOISE = "WARNING: Logging before InitGoogle() is written to STDERR"


@pytest.fixture
def with_library(tmp_path: Path) -> dict[str, str]:
    """An environment whose libtpu complains when JAX loads it, as the real one does away from a TPU."""
    package = tmp_path / "libtpu"
    package.mkdir()
    (package / "__init__.py").write_text(
        f"import sys\n\ndef get_library_path():\n    print({NOISE!r}, file=sys.stderr)\n    return 'nowhere.so'\n"
    )
    hidden = ("JAX_PLATFORMS", "XLA_FLAGS", "TPU_LIBRARY_PATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return environment | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run([sys.executable, *command], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_command_without_a_tpu_leaves_the_library_alone(with_library: dict[str, str]) -> None:
    start_jax = "import jax; jax.devices()"
    assert NOISE in run(with_library, "-c", start_jax)  # the fixture is not silent by itself
    assert NOISE not in run(with_library, "-m", "mqmha_jax", "show", "configs/demo.py")


def test_it_stays_where_a_tpu_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    for name, value in {"JAX_PLATFORMS": "tpu,cpu", "TPU_LIBRARY_PATH": "somewhere.so"}.items():
        with monkeypatch.context() as patch:
            patch.setenv("JAX_PLATFORMS", "")
            patch.delitem(sys.modules, "libtpu", raising=False)
            patch.setenv(name, value)
            hide_unneeded_tpu_library()
            assert "libtpu" not in sys.modules


@pytest.mark.parametrize(
    ("devices", "found"),
    [
        ([("0x8086", "0x1237"), ("0x10de", "0x2335")], False),  # Intel, NVIDIA
        ([("0x8086", "0x1237"), ("0x1ae0", "0x0042")], False),  # a virtual machine of Google's without a TPU
        ([("0x1ae0", "0x0042"), ("0x1ae0", "0x0063")], True),  # v5e
        ([("0x1ae0", "0x9999")], True),  # a later one
        ([], False),
    ],
)
def test_a_tpu_is_seen_among_the_devices(tmp_path: Path, devices: list[tuple[str, str]], found: bool) -> None:
    for i, (vendor, device) in enumerate(devices):
        folder = tmp_path / f"0000:00:0{i}.0"
        folder.mkdir()
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "device").write_text(f"{device}\n")
    (tmp_path / "damaged").mkdir()
    assert has_tpu(tmp_path) is found
