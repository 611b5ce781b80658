"""Making the environment: the pinned packages, or everything around an accelerator build that is already there."""

import importlib.metadata
import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def environment():
    spec = importlib.util.spec_from_file_location("environment", ROOT / "launch" / "environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Distribution:
    def __init__(self, name: str, version: str) -> None:
        self.metadata = {"Name": name}
        self.version = version


def installed(monkeypatch: pytest.MonkeyPatch, *packages: tuple[str, str]) -> None:
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [Distribution(*package) for package in packages])


def test_an_accelerator_build_is_found_and_pinned(environment, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, ("jax", "0.11.2"), ("jaxlib", "0.11.2"), ("jax_cuda12_plugin", "0.11.2"), ("numpy", "2.1"))
    assert environment.accelerator_pins() == ["jax==0.11.2", "jaxlib==0.11.2", "jax-cuda12-plugin==0.11.2"]
    installed(monkeypatch, ("jax", "0.10.2"), ("jaxlib", "0.10.2"), ("libtpu", "0.0.40"))
    assert "libtpu==0.0.40" in environment.accelerator_pins()


def test_a_plain_jax_or_none_is_not_kept(environment, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, ("jax", "0.10.0"), ("jaxlib", "0.10.0"))
    assert environment.accelerator_pins() == []
    installed(monkeypatch)
    assert environment.accelerator_pins() == []


def test_with_an_accelerator_nothing_installs_another_jax(environment) -> None:
    calls = environment.install_arguments([], ["jax==0.11.2"], Path("constraints.txt"))
    assert all("requirements.txt" not in argument for call in calls for argument in call)
    assert all("--constraint" in call for call in calls)


def test_without_one_the_pins_are_installed(environment) -> None:
    calls = environment.install_arguments([], [], Path("constraints.txt"))
    assert calls[0] == ["--requirement", str(ROOT / "requirements.txt")]
    assert not any("[" in argument for call in calls for argument in call)
    with_extra = environment.install_arguments(["cuda"], [], Path("constraints.txt"))
    assert with_extra[-1][-1].endswith("[cuda]")


@pytest.fixture
def make(environment, monkeypatch: pytest.MonkeyPatch):
    """Makes an environment without pip and packages; returns the arguments of ``pip install``."""
    calls: list[list[str]] = []
    create = environment.venv.create

    def pip(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
        calls.append([str(word) for word in command[5:]])
        return subprocess.CompletedProcess(command, 0)

    def make(directory: Path, *extras: str) -> list[list[str]]:
        calls.clear()
        monkeypatch.setattr("sys.argv", ["environment.py", "--directory", str(directory), *extras])
        environment.main()
        return list(calls)

    monkeypatch.setattr(
        environment.venv, "create", lambda path, **options: create(path, **options | {"with_pip": False})
    )
    monkeypatch.setattr(environment.subprocess, "run", pip)
    monkeypatch.setattr(environment, "accelerator_pins", list)
    return make


def test_a_directory_of_other_things_is_not_emptied(make, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit, match=r"is no Python environment .* would be emptied\. Give a directory"):
        make(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_extras_stay_until_others_are_asked_for(make, tmp_path: Path) -> None:
    directory = tmp_path / "env"
    directory.mkdir()
    assert make(directory, "--extras", "cuda")[-1][-1].endswith("[cuda]")
    assert make(directory) == make(directory, "--extras", "") == [], "the environment is there"
    (directory / "installed").unlink()
    assert make(directory)[-1][-1].endswith("[cuda]")
    assert make(directory, "--extras", "tpu")[-1][-1].endswith("[tpu]")


def test_requirements_pin_every_direct_dependency() -> None:
    """``make requirements`` was not forgotten, and no registry is named."""
    pinned = (ROOT / "requirements.txt").read_text()
    names = {line.split("==")[0].lower().replace("_", "-") for line in pinned.splitlines() if "==" in line}
    declared = re.findall(r'^  "([A-Za-z0-9_-]+)[><=]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert len(declared) > 15
    assert {name.lower().replace("_", "-") for name in declared} <= names
    assert "://" not in pinned
