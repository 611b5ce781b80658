"""The configurations and studies that come with the project, by name: ``laptop`` is ``configs/laptop.py``."""

from pathlib import Path
from typing import Literal

from mqmha_jax.errors import UserError, unknown_name

Kind = Literal["configuration", "study"]

# In a checkout the folder lies beside the package; an installed package holds it.
_INSTALLED, _CHECKOUT = (folder / "configs" for folder in Path(__file__).resolve().parents[:2])


def ready_names(kind: Kind) -> list[str]:
    """Names of the configurations or studies that come with the project."""
    return sorted(path.stem for path in _folder(kind).glob("*.py") if not path.stem.startswith("_"))


def find_file(path: Path, kind: Kind) -> Path:
    """The file that a user means by a path or by the name of a ready configuration or study.

    Args:
      path: an existing file, which always wins; else ``laptop``, ``laptop.py`` or ``configs/laptop.py``.
      kind: what the file defines.

    Raises:
      UserError: there is no such file and no such name.
    """
    if path.is_file():
        return path
    names = ready_names(kind)
    if path.suffix in ("", ".py") and path.stem in names and path.parent in (Path(), _below_root(kind)):
        return _folder(kind) / f"{path.stem}.py"
    if path.suffix or path.parent != Path():
        raise UserError(
            f"No {kind} file {path}. Give the path of a Python file, or one of the names that come with mqmha_jax: "
            f"{', '.join(names)}."
        )
    raise UserError(f"{unknown_name(kind, path.name, names)} Or give the path of a Python file.")


def _below_root(kind: Kind) -> Path:
    return Path("configs") if kind == "configuration" else Path("configs", "studies")


def _folder(kind: Kind) -> Path:
    root = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
    return root if kind == "configuration" else root / "studies"
