"""The copies of one's own code that a run holds: made by training, checked before they run."""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mqmha_jax.atomic import write_bytes
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import read_sealed_json, require_fields, write_sealed_json
from mqmha_jax.own_code.contents import hash_code, hash_files, read_code, read_file
from mqmha_jax.own_code.names import code_names, replace_names, split_name
from mqmha_jax.own_code.trust import require_code, trust_code

FOLDER, LIST_NAME = "code", "code.json"


def copy_code(values: Any, workdir: Path) -> None:
    """Copies the code that a configuration names into a run, or checks that it is still that of the run; trusts it.

    Args:
      values: nested dictionaries of the configuration.
      workdir: of the run, which this process may write.

    Raises:
      UserError: a file changed since the run started, or the copy cannot be written.
    """
    names = code_names(values)
    if not names:
        return
    hashes = hash_code(values)
    target = workdir / FOLDER
    for file, copy in list_changed_code(hashes, workdir).items():
        raise UserError(
            f"{file}, or a file that it imports, changed since this run started. Restore it from {copy}, or train with "
            "the changed file in another --workdir."
        )
    files = {}
    for file, digest in hashes.items():
        for name, content in read_code(Path(file)).items():
            path = target / digest / name
            if not path.is_file() or read_file(path) != content:
                write_bytes(path, content)
            files[f"{digest}/{name}"] = hashlib.sha256(content).hexdigest()
    write_sealed_json(target / LIST_NAME, {"hashes": hashes, "files": files})
    trust_code(values)


def list_changed_code(hashes: Mapping[str, str], workdir: Path) -> dict[str, Path]:
    """Files of code that changed, or whose neighbours did, since a run started, and the folder of the run's copy.

    Args:
      hashes: of the present code, as ``hash_code`` gives them.
      workdir: of the run.
    """
    target = workdir / FOLDER
    if not (target / LIST_NAME).exists():
        return {}
    known = _read_list(target)["hashes"]
    return {file: target / known[file] for file, now in hashes.items() if known.get(file, now) != now}


def remove_code(workdir: Path) -> None:
    """Removes the copies of a run that did not start."""
    shutil.rmtree(workdir / FOLDER, ignore_errors=True)


def copy_code_of_run(workdir: Path, other: Path) -> None:
    """Copies the code of a run to another one, such as an average of its checkpoints."""
    if (workdir / FOLDER).is_dir():
        shutil.copytree(workdir / FOLDER, other / FOLDER)


def locate_code(values: Any, workdir: Path) -> Any:
    """The configuration of a run with the paths of the run's own copies of code, which may then be run.

    Args:
      values: nested dictionaries of the configuration, as the run saved them.
      workdir: of the run.

    Returns:
      The nested dictionaries with other paths, or the same ones where the configuration names no code.

    Raises:
      UserError: the code is not trusted and not allowed, or a copy differs from what was trained with.
    """
    names = code_names(values)
    if not names:
        return values
    target = workdir / FOLDER
    if not (target / LIST_NAME).exists():  # of a version that made no copies
        file, attribute = split_name(names[0])
        require_code(None, attribute, Path(file).absolute(), where=str(workdir))
        return values
    listed = _read_list(target)
    _require_unchanged(target, listed["files"])
    places = {}
    for name in names:
        file, attribute = split_name(name)
        if file not in listed["hashes"]:
            raise UserError(f"{target / LIST_NAME} does not list {file}, which the run names. Copy the run again.")
        digest = listed["hashes"][file]
        place = target / digest / Path(file).name
        require_code(digest, attribute, place, where=str(workdir))
        _require_digest(target, digest)
        if Path(file).is_file() and hash_files(read_code(Path(file))) != digest:
            logging.getLogger(__name__).warning("%s changed after the training; its copy %s is used.", file, place)
        places[name] = f"{place}:{attribute}"
    return replace_names(values, places)


def _require_unchanged(target: Path, files: Mapping[str, str]) -> None:
    """Exactly the listed files: another one, or compiled code, could be imported in place of what was trained with."""
    found = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
    found.pop(LIST_NAME, None)
    for name in sorted(files.keys() | found.keys()):
        if name not in files:
            raise UserError(f"{target / name} does not belong to the code that the run was trained with. Delete it.")
        if name not in found or hashlib.sha256(read_file(found[name])).hexdigest() != files[name]:
            raise UserError(f"{target / name} is missing or differs from what the run was trained with. Restore it.")


def _require_digest(target: Path, digest: str) -> None:
    """The copy is what its hash says: whoever sends a run writes its list, but cannot choose a trusted hash."""
    folder = target / digest
    found = sorted(folder.rglob("*"))
    if links := [path for path in (folder, *found) if path.is_symlink()]:
        raise UserError(f"{links[0]} is a link; a copy of a run's code has none. Restore it from a copy of this run.")
    contents = {path.relative_to(folder).as_posix(): read_file(path) for path in found if not path.is_dir()}
    if hash_files(dict(sorted(contents.items()))) != digest:
        raise UserError(f"{folder} differs from what the run was trained with. Restore it from a copy of this run.")


def _read_list(target: Path) -> dict[str, Any]:
    path, advice = target / LIST_NAME, "Restore it from a copy of this run."
    content = read_sealed_json(path, advice=advice)
    require_fields(content, {"hashes": dict[str, str], "files": dict[str, str]}, where=str(path), advice=advice)
    return content
