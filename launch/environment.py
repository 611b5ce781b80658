"""Makes the project's own Python environment in ``.venv``; needs only Python 3.11 to 3.14 and its standard library.

Installs the pinned ``requirements.txt``, unless the machine has an accelerator build of jax: the environment then uses
that one, and pip chooses everything else around it, within the bounds of ``pyproject.toml``.
"""

import argparse
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST, NEWEST = (3, 11), (3, 14)  # as requires-python in pyproject.toml says

EXTRAS_NAME = "extras.txt"
"""File in the environment: its extras. ``make test`` after ``make demo EXTRAS=cuda`` keeps them."""

# Distributions that make a jax installation an accelerator build.
_ACCELERATORS = ("libtpu", "jax-cuda", "jax-rocm", "jax-metal")


def accelerator_pins() -> list[str]:
    """``name==version`` of each package of this interpreter's accelerator build of jax; empty if it has none."""
    installed = {
        dist.metadata["Name"].lower().replace("_", "-"): dist.version for dist in importlib.metadata.distributions()
    }
    accelerators = [name for name in installed if name.startswith(_ACCELERATORS)]
    if "jax" not in installed or not accelerators:
        return []
    return [f"{name}=={installed[name]}" for name in ("jax", "jaxlib", *sorted(accelerators)) if name in installed]


def install_arguments(extras: list[str], pins: list[str], constraints: Path) -> list[list[str]]:
    """The ``pip install`` calls that fill the environment.

    Args:
      extras: extras of this project, e.g. ``["cuda"]``.
      pins: what ``accelerator_pins`` found.
      constraints: the file that holds the pins.
    """
    project = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    if pins:
        wanted = f"{ROOT}[{','.join(dict.fromkeys(['test', 'dev', 'docs', *extras]))}]"
        return [["--constraint", str(constraints), "--editable", wanted]]
    calls = [["--requirement", str(ROOT / "requirements.txt")], ["--no-deps", "--editable", str(ROOT)]]
    if extras:  # the accelerator's wheels must match the pinned jax
        calls.append(["--constraint", str(ROOT / "requirements.txt"), "--editable", project])
    return calls


def refuse_foreign(directory: Path) -> None:
    """Exits if a directory holds anything but an environment, because making one empties it."""
    if not directory.exists() or (directory / "pyvenv.cfg").is_file():
        return
    if not directory.is_dir() or any(directory.iterdir()):
        sys.exit(
            f"--directory {directory}: is no Python environment (it has no pyvenv.cfg), and would be emptied. Give a "
            "directory that is empty or does not exist."
        )


def choose_extras(asked: str, directory: Path) -> list[str]:
    """Those that are asked for; if none are, those of the environment that is there already."""
    noted = directory / EXTRAS_NAME
    return [name for name in (asked or (noted.read_text() if noted.is_file() else "")).split(",") if name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="", help="cuda, tpu; none: those of the present environment")
    parser.add_argument("--directory", type=Path, default=ROOT / ".venv", help="where the environment goes")
    options = parser.parse_args()
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.exit(f"Python 3.11 to 3.14 is needed, this is {sys.version.split()[0]}. Try: make PYTHON=python3.13 ...")
    refuse_foreign(options.directory)
    extras = choose_extras(options.extras, options.directory)
    pins = [] if extras else accelerator_pins()
    stamp, state = options.directory / "installed", _state(extras, pins)
    if stamp.exists() and stamp.read_text() == state:
        return
    if pins:
        print(f"Keeping this machine's accelerator build: {', '.join(pins)}")
    print(f"Making {options.directory} (once; a few minutes)", flush=True)
    venv.create(options.directory, with_pip=True, clear=True, system_site_packages=bool(pins))
    (options.directory / EXTRAS_NAME).write_text(",".join(extras))
    constraints = options.directory / "constraints.txt"
    constraints.write_text("\n".join(pins))
    python = options.directory / "bin" / "python"
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for arguments in install_arguments(extras, pins, constraints):
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments], env=environment)
        if done.returncode:
            sys.exit(
                f"pip install {' '.join(arguments)} failed; its message is above. Fix that and run the command again."
            )
    stamp.write_text(state)


def _state(extras: list[str], pins: list[str]) -> str:
    files = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "requirements.txt"))
    return hashlib.sha256(files + repr((sys.version, extras, pins)).encode()).hexdigest()


if __name__ == "__main__":
    main()
