"""The manifest of a checkpoint: size and SHA-256 of every file. It is written last, so it proves completeness."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from mqmha_jax.errors import UserError
from mqmha_jax.file_hash import size_and_hash
from mqmha_jax.json_file import read_sealed_json, read_versioned_json, seal_of, write_sealed_json
from mqmha_jax.runs.run_files import CHECKPOINTS_NAME

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1

# hashlib releases the interpreter, so that files are hashed side by side while training goes on.
_THREADS = 4

_ADVICE = "Restore the file from a copy of this run."
_FIELDS = {"step": int, "eer": int | float | None, "run": dict[str, dict], "files": dict[str, tuple[int, str]]}


class Manifest(NamedTuple):
    """The contents of ``manifest.json``.

    Attributes:
      step: of the state, which is also the directory's name.
      eer: dev EER of the network, a fraction; None if it was not evaluated.
      run: the run that the checkpoint belongs to, ``workdir.describe_run``.
      files: path below the checkpoint's directory -> ``[bytes, SHA-256]``.
    """

    step: int
    eer: float | None
    run: Mapping[str, Any]
    files: Mapping[str, list[Any]]


def identify_checkpoint(workdir: Path, step: int) -> str:
    """A fingerprint of the checkpoint of a step: files that an evaluation keeps belong to this network only.

    Args:
      workdir: of the run.
      step: of the checkpoint.

    Returns:
      SHA-256 of the manifest; empty where there is none, as in runs of earlier versions.

    Raises:
      UserError: the manifest is damaged.
    """
    path = workdir / CHECKPOINTS_NAME / str(step) / MANIFEST_NAME
    if not path.exists():
        return ""
    return seal_of(read_sealed_json(path, advice=_ADVICE))


def write_manifest(directory: Path, step: int, *, eer: float | None, run: Mapping[str, Any]) -> None:
    """Hashes all files below a directory and writes the manifest beside them.

    Args:
      directory: of one checkpoint, complete but for the manifest.
      step, eer, run: as in ``Manifest``.

    Raises:
      UserError: the manifest cannot be written.
      OSError: a file cannot be read.
    """
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    names = [path.relative_to(directory).as_posix() for path in paths]
    with ThreadPoolExecutor(_THREADS) as threads:
        files = dict(zip(names, threads.map(size_and_hash, paths), strict=True))
    content = {"format_version": FORMAT_VERSION, "step": step, "eer": eer, "run": dict(run), "files": files}
    write_sealed_json(directory / MANIFEST_NAME, content)


def read_manifest(directory: Path) -> Manifest:
    """Reads the manifest of a checkpoint.

    Raises:
      UserError: it is missing, changed, of a newer version, or belongs to another step than the directory's name says.
    """
    path = directory / MANIFEST_NAME
    content = read_versioned_json(path, FORMAT_VERSION, _FIELDS, advice=_ADVICE)
    manifest = Manifest(**{name: content[name] for name in Manifest._fields})
    if directory.name != str(manifest.step):
        raise UserError(
            f"{directory} holds the checkpoint of step {manifest.step}. Rename it to {manifest.step}, or restore the "
            f"checkpoint of step {directory.name}."
        )
    return manifest


def verify_files(directory: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """Compares files with the manifest.

    Args:
      directory: of the checkpoint.
      manifest: its manifest.
      names: of the files to compare, some or all of ``manifest.files``.

    Raises:
      UserError: names the first file that is missing or differs from what was written.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        for problem in threads.map(lambda name: _difference(directory / name, manifest.files[name]), names):
            if problem:
                raise UserError(problem)


def _difference(path: Path, written: list[Any]) -> str | None:
    if not path.is_file():
        return f"{path} is missing"
    if (size := path.stat().st_size) != written[0]:
        return f"{path} has {size} bytes, {written[0]} were written"
    return None if size_and_hash(path) == written else f"{path} differs from what was written (its SHA-256 changed)"
