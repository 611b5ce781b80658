"""One set-up for all tests: virtual CPU devices, strict ranks, grain's flags, and where the shared data lies."""

import os
import signal
import tempfile
from pathlib import Path

# Tests that run in the background of a shell inherit ignored signals, and so would the programs that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time of a test is compilation, which the lowest optimisation level halves.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
# Tests in different files and processes compile the same programs; they share them, also with the next test run.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"mqmha-tests-programs-{os.getuid()}")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("MPLBACKEND", "agg")
# What tests train with is nothing that the user of this machine trusts.
os.environ["XDG_STATE_HOME"] = str(Path(tempfile.gettempdir()) / f"mqmha-tests-state-{os.getuid()}")

import jax
import pytest
from absl import flags

jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # grain's worker processes read absl flags

# Under ``--dist loadfile`` a file is one worker's, so that nobody trains its fixtures twice. Long files come first: one
# that starts last would keep one core busy while the other has nothing left to do.
LONGEST = (
    "test_processes",
    "test_study",
    "test_step",
    "test_faults",
    "test_train",
    "test_augmented_training",
    "test_demo",
)

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name}, which lies beside the project only where the project is developed")
    return path


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Worked numbers of independent implementations."""
    return _shared("reference")


@pytest.fixture(scope="session")
def speech_dir() -> Path:
    """The real-speech benchmark."""
    return _shared("speech")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the longest files first; all else stays in order."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
