"""Runs the commands of stages, and describes the machine."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mqmha_jax.errors import UserError

MQMHA = (sys.executable, "-m", "mqmha_jax")

_ENVIRONMENT = dict(os.environ)
os.environ["JAX_PLATFORMS"] = "cpu"  # this process only counts; its commands use the devices
_child: subprocess.Popen[bytes] | None = None


def run_command(command: Sequence[str]) -> None:
    """Runs a command; a signal to this program reaches it too, so that it saves what it has.

    Raises:
      UserError: it ends with another status than 0, or does not exist.
    """
    global _child
    print(f"   $ {show_command(command)}", flush=True)
    try:
        _child = subprocess.Popen(command, env=_ENVIRONMENT)
    except OSError as error:
        raise UserError(
            f"{command[0]} cannot be started ({error.strerror}). Check --train-with, --prepare-with."
        ) from None
    try:
        status = _child.wait()
    except (KeyboardInterrupt, SystemExit):  # of the terminal, which also interrupts the command, or of pass_on
        _child.wait()
        raise
    finally:
        _child = None
    if status:
        raise UserError(
            f"This command ended with status {status}; its own message stands above. What it finished stays: run the "
            "same command again to resume."
        )


def pass_on(number: int, frame: Any) -> None:
    """Handles a signal: the command gets it too, and ends first."""
    # Only run_command may wait for it: it holds a lock of Popen while it does, and this handler interrupts it.
    if _child is not None:
        os.kill(_child.pid, number)
    sys.exit(128 + number)


def show_command(command: Sequence[str]) -> str:
    """The command as people type it."""
    words = ("mqmha", *command[len(MQMHA) :]) if tuple(command[: len(MQMHA)]) == MQMHA else command
    return shlex.join(words)


def describe_machine() -> dict[str, Any]:
    """What this machine is, for the table."""
    import jax

    from mqmha_jax import __version__

    asked = "from mqmha_jax.parallel import describe_devices; print(describe_devices())"
    devices = subprocess.run([sys.executable, "-c", asked], env=_ENVIRONMENT, capture_output=True, text=True)
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "devices": devices.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "mqmha_jax": __version__,
    }
