"""Keeps the TPU's library silent on machines without a TPU, where the extra ``plan`` installs it for its compiler."""

import os
import sys
from pathlib import Path

_GOOGLE = "0x1ae0"
_NETWORK_CARD = "0x0042"  # gVNIC, in Google's virtual machines with and without a TPU
_PCI = Path("/sys/bus/pci/devices")


def hide_unneeded_tpu_library() -> None:
    """Makes ``import libtpu`` fail in this process, if the machine has no TPU and nobody asks for one.

    JAX tries every platform it finds. With libtpu installed it tries a TPU, and the library answers with warnings and
    stack traces before JAX falls back. JAX cannot leave out one platform: JAX_PLATFORMS lists those to use, and of
    those each must work. Call this before importing JAX.
    """
    asked_for = any(os.environ.get(name) for name in ("JAX_PLATFORMS", "TPU_LIBRARY_PATH", "JAX_FORCE_TPU_INIT"))
    if asked_for or has_tpu():
        return
    # None in sys.modules is Python's own way to say that a module cannot be imported.
    sys.modules.setdefault("libtpu", None)  # type: ignore[arg-type]


def has_tpu(pci: Path = _PCI) -> bool:
    """Tells whether a device of Google other than its network card is attached; so a future TPU counts, too.

    Args:
      pci: where the kernel lists devices.
    """
    return any(
        _read(device / "vendor") == _GOOGLE and _read(device / "device") != _NETWORK_CARD for device in pci.glob("*")
    )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
