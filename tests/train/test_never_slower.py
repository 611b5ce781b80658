"""A run and a start stay fast: no program is compiled twice, and nothing unneeded is imported."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mqmha_jax.config import Config
from mqmha_jax.config_io import to_dict, with_overrides
from mqmha_jax.evaluation.embeddings.training_mean import save_mean
from mqmha_jax.evaluation.scoring.calibration import Calibration
from mqmha_jax.evaluation.scoring.decisions import KeptCalibration, save_decision
from mqmha_jax.train.loop import train
from tests.support.batches import change_batches
from tests.support.tiny import tiny_config, tiny_corpus
from tests.support.tiny_audio import RATE, write_audio


@contextmanager
def compilations() -> Iterator[Counter[str]]:
    """Counts the programs that XLA compiles inside, by name, with empty caches at the start."""
    names: Counter[str] = Counter()

    def listen(event: str, _: float, **details: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names[details["fun_name"]] += 1

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny_config(tiny_corpus(tmp_path_factory.mktemp("corpus")))


@pytest.fixture(scope="module")
def run(config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Counter[str]]:
    """A whole run with three evaluations and three checkpoints, and the programs that it compiled."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    with compilations() as names:
        assert train(config, workdir, progress=False).finished
    return workdir, names


MOST_PROGRAMS = 20
"""A run of ours compiles about 11, most of them tiny; a program per step or evaluation would be many more."""


def test_a_run_compiles_few_programs(run: tuple[Path, Counter[str]]) -> None:
    names = run[1]
    # Not counting Orbax, which slices every array that lies on several devices to save it.
    assert names.total() - names["jit(slice)"] <= MOST_PROGRAMS, names


def test_many_steps_compile_no_more_than_one(config: Config, run: tuple[Path, Counter[str]], tmp_path: Path) -> None:
    """Nothing changes its shape, type or place between the first step and later ones, or between evaluations."""
    with compilations() as names:
        train(with_overrides(config, ["train.steps=1"]), tmp_path, progress=False)
    assert names == run[1]


def test_a_resumed_run_compiles_less_than_a_new_one(
    config: Config, run: tuple[Path, Counter[str]], tmp_path: Path
) -> None:
    """It draws no parameters."""
    workdir = tmp_path / "run"
    shutil.copytree(run[0], workdir)
    shutil.rmtree(workdir / "checkpoints" / "12")
    with compilations() as names:
        assert train(config, workdir, progress=False).finished
    assert names < run[1]


def test_a_finished_run_compiles_next_to_nothing(config: Config, run: tuple[Path, Counter[str]]) -> None:
    with compilations() as names:
        assert train(config, run[0], progress=False).finished
    assert names.total() < run[1].total() / 2


# Calls the command in a new process, which prints its imports and the number of programs that it compiled.
CALL = """
import json, sys
import jax
import jax.numpy as jnp
missed = []
jax.monitoring.register_event_listener(lambda event, **_: missed.append(event) if "cache_misses" in event else None)
from mqmha_jax.cli import main
main.main(sys.argv[1:], standalone_mode=False)
print(json.dumps([sorted(sys.modules), len(missed)]))
"""

READING = {"array_record", "grain", "tensorflow_datasets"}
REPORTING = {"matplotlib", "sklearn", "scipy.optimize", "scipy.stats", "scipy.special", "tensorboardX"}


def call(arguments: list[object], compiled: Path) -> tuple[set[str], int]:
    done = subprocess.run(
        [sys.executable, "-c", CALL, *map(str, arguments)],
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(compiled)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    modules, misses = json.loads(done.stdout.splitlines()[-1])
    return set(modules), misses


def test_verify_imports_no_reader_of_shards_and_no_plots_and_compiles_once(
    run: tuple[Path, Counter[str]], tmp_path: Path
) -> None:
    """With all files that an evaluation can leave for it."""
    save_mean(run[0], np.full(6, 0.1, np.float32), step=12)
    save_decision(run[0], KeptCalibration(Calibration(("score",), (5.0,), -1.0, 0.5), "other"), step=12)
    rng = np.random.default_rng(0)
    recordings = [write_audio(tmp_path / name, 0.1 * rng.standard_normal(RATE)) for name in ("a.wav", "b.wav")]
    modules, programs = call(["verify", run[0], *recordings], tmp_path / "compiled")
    assert "jax" in modules
    assert not modules & (READING | REPORTING)
    assert programs > 0
    assert call(["verify", run[0], *recordings], tmp_path / "compiled")[1] == 0


def test_training_imports_no_plots_and_no_fitting(
    config: Config, run: tuple[Path, Counter[str]], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(config)))
    modules, _ = call(["train", path, "--workdir", run[0], "--quiet"], tmp_path / "compiled")
    assert modules >= {"jax", "grain", "mqmha_jax.train.loop"}
    assert not modules & (REPORTING - {"scipy.special", "tensorboardX"})


def test_an_accidental_transfer_in_a_step_is_refused(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NumPy array in an operation on the devices. On a CPU the way back is free, so the test reads only its guard."""
    guards = []

    def compute(step: int, batch: Any) -> Any:
        guards.append(jax.config.jax_transfer_guard_device_to_host)
        return {**batch, "fbank": jax.jit(jnp.add)(batch["fbank"], np.float32(1))}

    change_batches(monkeypatch, compute)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        train(config, tmp_path, progress=False)
    assert guards == ["disallow"]
