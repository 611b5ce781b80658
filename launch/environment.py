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
        wanted = f"{ROOT}[{','.join(dict.fromkeys(['test', *extras]))}]"
        return [["--constraint", str(constraints), "--editable", wanted]]
    calls = [["--requirement", str(ROOT / "requirements.txt")], ["--no-deps", "--editable", str(ROOT)]]
    if extras:  # the accelerator's wheels must match the pinned jax
        calls.append(["--constraint", str(ROOT / "requirements.txt"), "--editable", project])
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="", help="comma-separated extras of the project: cuda, tpu")
    parser.add_argument("--directory", type=Path, default=ROOT / ".venv", help="where the environment goes")
    options = parser.parse_args()
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.exit(f"Python 3.11 to 3.14 is needed, this is {sys.version.split()[0]}. Try: make PYTHON=python3.13 ...")
    extras = [name for name in options.extras.split(",") if name]
    pins = [] if extras else accelerator_pins()
    stamp, state = options.directory / "installed", _state(extras, pins)
    if stamp.exists() and stamp.read_text() == state:
        return
    if pins:
        print(f"Keeping this machine's accelerator build: {', '.join(pins)}")
    print(f"Making {options.directory} (once; a few minutes)", flush=True)
    venv.create(options.directory, with_pip=True, clear=True, system_site_packages=bool(pins))
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
