"""Records the figures of a benchmark with machine, date, versions and command."""

import datetime
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(os.environ.get("BENCHMARK_RESULTS") or Path(__file__).parent / "results")
_PACKAGES = ("jax", "flax", "optax", "numpy", "torch", "kaldi-native-fbank", "onnxruntime")


def keep(name: str, figures: Mapping[str, Any]) -> None:
    """Appends one run to ``results/NAME.jsonl``.

    Args:
      name: name of the benchmark.
      figures: figures as JSON values.
    """
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps({**circumstances(), **figures}) + "\n")


def read_records(name: str) -> list[dict[str, Any]]:
    """Reads all runs in ``results/NAME.jsonl``, oldest first; none if there is no such file."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def circumstances() -> dict[str, Any]:
    """Describes where, when and how this process runs; ``load`` above the number of cores shows other work."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1),
        "versions": {"python": platform.python_version(), **_versions()},
        "command": " ".join(["python", *map(_without_folders, sys.argv)]),
    }


def machine() -> str:
    """Returns the processor and the number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _without_folders(argument: str) -> str:
    """Removes folders: a result does not depend on where somebody keeps their files."""
    path = Path(argument)
    if path.name == Path(sys.argv[0]).name:
        return f"benchmarks/{path.name}"
    return path.name if path.is_absolute() or argument.startswith(("./", "../")) else argument
