"""Pretrained networks by name: a checkpoint file, a folder that holds one, or a repository of the Hugging Face Hub."""

from pathlib import Path

from mqmha_jax.errors import UserError, missing_extra
from mqmha_jax.interop.checkpoint_file import CHECKPOINT_ENDINGS
from mqmha_jax.interop.import_run import LoadedFile, load_file

_HUB = "hf:"
_USUAL_NAMES = ("model.safetensors", "avg_model.pt")  # if there are several files, these hold the network


def find_pretrained(source: str | Path) -> Path:
    """Returns the path of a pretrained network; downloads it if necessary.

    Args:
      source: a path, or ``hf:owner/name`` for a repository of the Hugging Face Hub, which is downloaded once.

    Raises:
      UserError: there is no such path or repository, or the extra 'hub' is not installed.
    """
    if str(source).startswith(_HUB):
        return _download(str(source).removeprefix(_HUB))
    path = Path(source)
    if not path.exists():
        raise UserError(f"There is no file or directory {path}. A repository of the Hub is written hf:owner/name.")
    return path


def load_pretrained(path: Path) -> LoadedFile:
    """Loads the network of a checkpoint file, or of a folder that holds one.

    Raises:
      UserError: the folder holds no checkpoint or several, or the file cannot be used.
    """
    return load_file(path if path.is_file() else _only_checkpoint(path))


def _only_checkpoint(folder: Path) -> Path:
    files = sorted(path for path in folder.iterdir() if path.suffix in CHECKPOINT_ENDINGS)
    for name in _USUAL_NAMES:
        if folder / name in files:
            return folder / name
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise UserError(
            f"{folder} is not a work directory, so it must hold one checkpoint ({', '.join(CHECKPOINT_ENDINGS)}), or "
            f"one called {' or '.join(_USUAL_NAMES)}; it holds {found}. Give the path of the file."
        )
    return files[0]


def _download(repository: str) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise missing_extra("A network of the Hub needs the package huggingface_hub", "hub") from None
    try:
        return Path(huggingface_hub.snapshot_download(repository))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"The repository {repository} of the Hugging Face Hub cannot be downloaded ({first_line}). Write "
            "hf:owner/name, and log in with 'hf auth login' if it is private."
        ) from error
