"""Paths that a list names stay below its root."""

import os
from pathlib import Path

from mqmha_jax.errors import UserError


def confined(root: Path, name: str, where: str) -> Path:
    """The path that a list means.

    A list may come from anyone; a path in it must not lead out of the root, neither by ``..`` nor by being absolute.
    Links below the root are followed wherever they lead: whoever owns the root made them.

    Args:
      root: what relative paths are relative to.
      name: as the list has it; an absolute path below the root will do.
      where: list and line, for the message.

    Returns:
      A path below the root, not looked at.

    Raises:
      UserError: the path leads out of the root, or is not a path.
    """
    if "\0" in name:
        raise UserError(f"{where}: {name!r} is not a path.")
    path = Path(os.path.normpath(root / name))
    if not path.is_relative_to(os.path.normpath(root)):
        raise UserError(
            f"{where}: {name!r} leads out of {root}, the folder that the list is about; give the folder of the audio "
            "with --root DIR (--root / allows any path)."
        )
    return path
