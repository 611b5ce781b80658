"""Preparations in their own processes, which tests kill, block and start twice."""

import functools
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.manifest import Recording
from mqmha_jax.config import FbankSpec
from tests.support.paths import ROOT

SPEC = FbankSpec(num_mel_bins=8)
MEGABYTES = 1e-3
"""Size of a shard, so small that every recording is a piece."""


def noise(seed: int, sample_rate_hz: int) -> np.ndarray:
    """Makes a second or two of noise."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(sample_rate_hz + int(rng.integers(sample_rate_hz)))).astype(np.float32)


def after(flag: Path, seed: int, sample_rate_hz: int) -> np.ndarray:
    """Makes noise, once a file exists."""
    while not flag.exists():
        time.sleep(0.02)
    return noise(seed, sample_rate_hz)


def slow(seconds: float, seed: int, sample_rate_hz: int) -> np.ndarray:
    """Makes noise, after some time."""
    time.sleep(seconds)
    return noise(seed, sample_rate_hz)


def too_loud(sample_rate_hz: int) -> np.ndarray:
    """Makes finite samples with infinite powers."""
    return np.full(sample_rate_hz, 1e30, np.float32) * noise(0, sample_rate_hz)[:sample_rate_hz]


def stumbles(sample_rate_hz: int) -> np.ndarray:
    """Raises, like a decoder, an error of its own type."""
    raise KeyError("frame 7")


def killed(sample_rate_hz: int) -> np.ndarray:
    """Kills its process, as a system does to a worker that takes too much memory."""
    os._exit(137)


def corpus(source: str, count: int, *first_argument: object) -> list[Recording]:
    """Lists recordings; a function of this module makes their samples."""
    make = functools.partial(globals()[source], *first_argument)
    return [
        Recording(f"u{seed}", f"s{seed % 3}", functools.partial(make, seed), {"room": str(seed % 2)})
        for seed in range(count)
    ]


def start(output: Path, source: str, count: int, *first_argument: object, **options: Any) -> subprocess.Popen:
    """Starts ``build_shards`` in a process."""
    job = json.dumps([str(output), source, count, [str(argument) for argument in first_argument], options])
    command = [sys.executable, "-m", "tests.support.prep_jobs", job]
    return subprocess.Popen(command, cwd=ROOT)


def checksums(directory: Path) -> dict[str, str]:
    """Computes the checksum of every file in a directory."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def wait_until(condition: Any, seconds: float = 60) -> None:
    """Waits for a condition; raises an error if it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def main() -> None:
    """Runs in the process that ``start`` starts."""
    from data_prep.build_shards import build_shards
    from mqmha_jax.errors import UserError

    output, source, count, arguments, options = json.loads(sys.argv[1])
    converted = [float(argument) if source == "slow" else Path(argument) for argument in arguments]
    defaults = {"num_workers": 0, "max_rejected": 0, "progress": False, "shard_megabytes": MEGABYTES}
    try:
        build_shards(
            corpus(source, count, *converted), output, spec=SPEC, provenance={"corpus": "test"}, **(defaults | options)
        )
    except UserError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    from tests.support import prep_jobs  # so that its functions have the same names in every process

    prep_jobs.main()
