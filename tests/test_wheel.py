"""The wheel is the product: it holds every file of the packages, and works where nothing else of the project is."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.paths import ROOT

PACKAGES = ("mqmha_jax", "data_prep", "configs")


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def tracked_names() -> list[str]:
    """Files of the repository that exist, and new ones that nothing ignores."""
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if files.returncode:
        pytest.skip("needs the git repository, whose files the wheel is compared with")
    return [name for name in files.stdout.decode().rstrip("\0").split("\0") if (ROOT / name).is_file()]


def find_packages(include: Sequence[str]) -> list[str]:
    """Like setuptools, which not every environment has: folders with ``__init__.py``, and so all above them."""
    folders = {path.parent.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("__init__.py")}
    whole = [folder for folder in folders if folders >= {*folder.parents} - {Path()}]
    names = [".".join(folder.parts) for folder in whole]
    return [name for name in names if any(fnmatch(name, pattern) for pattern in include)]


def test_setup_puts_every_tracked_file_of_the_packages_into_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rules of setup.py and pyproject.toml; the slow tests build the wheel."""
    given: dict[str, Any] = {}
    monkeypatch.setitem(sys.modules, "setuptools", SimpleNamespace(find_packages=find_packages, setup=given.update))
    runpy.run_path(str(ROOT / "setup.py"))
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    held: set[Path] = set()
    for package in given["packages"]:
        for name, folder in given["package_dir"].items():
            package = re.sub(rf"^{re.escape(name)}(?=\.|$)", folder, package)
        held = held.union(*((ROOT / package.replace(".", "/")).glob(pattern) for pattern in ["*.py", *data]))
    expected = {ROOT / name for name in tracked_names() if name.split("/")[0] in PACKAGES}
    assert len(expected) > 100
    assert not {str(path.relative_to(ROOT)) for path in expected - held}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the repository in a folder of their own, as setuptools leaves traces where it builds."""
    source = tmp_path_factory.mktemp("source")
    for name in tracked_names():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    return source


@pytest.fixture(scope="module")
def wheel(tracked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, not from the checkout: so a file that the former lacks is missed."""
    folder = tmp_path_factory.mktemp("dist")
    venv.create(folder / "build", with_pip=True)
    python = folder / "build" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "build", cwd=folder)
    run(python, "-m", "build", "--outdir", folder, tracked, cwd=folder)
    assert len(list(folder.glob("*.tar.gz"))) == 1
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def mqmha(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, installed with the pinned dependencies into an empty environment."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=True)
    pins = ROOT / "requirements.txt"
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--constraint", pins, wheel, cwd=folder)
    return folder / "bin" / "mqmha"


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages(wheel: Path, tracked: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(tracked).as_posix()
        for folder in PACKAGES
        for path in (tracked / folder).rglob("*")
        if path.is_file()
    }
    assert names == {f"mqmha_jax/{name}" if name.startswith("configs/") else name for name in expected}


@pytest.mark.slow
def test_the_installed_program_answers_and_trains(mqmha: Path, tmp_path: Path) -> None:
    assert "Usage: mqmha" in run(mqmha, "--help", cwd=tmp_path)
    assert "train.steps" in run(mqmha, "show", "laptop", cwd=tmp_path)
    assert "Did you mean 'laptop'?" in run(mqmha, "show", "labtop", cwd=tmp_path, status=1)
    output = run(mqmha, "demo", "--workdir", tmp_path / "demo", "train.steps=20", cwd=tmp_path)
    assert "Done in" in output
    assert (tmp_path / "demo" / "evaluation" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_the_installed_package_imports_from_anywhere(mqmha: Path, tmp_path: Path) -> None:
    program = "import mqmha_jax; print(mqmha_jax.__file__); print(mqmha_jax.MQMHA.__name__)"
    where, name = run(mqmha.parent / "python", "-c", program, cwd=tmp_path).split()
    assert Path(where).is_relative_to(mqmha.parent.parent)
    assert name == "MQMHA"
    run(mqmha.parent / "python", "-c", "import configs", cwd=tmp_path, status=1)
    files = "from mqmha_jax.ready_configs import ready_names; print(*ready_names('study'))"
    assert "pooling" in run(mqmha.parent / "python", "-c", files, cwd=tmp_path)
    assert sys.prefix != str(mqmha.parent.parent)
