"""Keeps the paths that a list names below its root."""

import os
from pathlib import Path

from mqmha_jax.errors import UserError


def confine(root: Path, name: str, where: str) -> Path:
    """Resolves a path of a list, and refuses one outside of the root.

    A list may come from anyone, so its paths must not lead out of the root, whether through ``..`` or as absolute
    paths. Links below the root may lead anywhere: the owner of the root made them.

    Args:
      root: folder that relative paths start from.
      name: the path in the list; an absolute path below the root is accepted.
      where: list and line, for the message.

    Returns:
      A path below the root, which need not exist.

    Raises:
      UserError: the path leads out of the root, or is not a path.
    """
    if "\0" in name:
        raise UserError(f"{where}: {name!r} is not a path.")
    path = Path(os.path.normpath(root / name))
    if not path.is_relative_to(os.path.normpath(root)):
        raise UserError(
            f"{where}: {name!r} leads out of {root}, the folder of the audio. Give another folder with --root DIR; "
            "--root / allows any path."
        )
    return path
