"""The directory of a command's results: the command replaces its own files there, never the user's or its inputs."""

import itertools
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from mqmha_jax.atomic import check_writable_directory
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import SEAL, read_json


def check_results_directory(
    directory: Path, names: Collection[str], *, mark: str, work: str, inputs: Iterable[Path] = ()
) -> None:
    """Refuses, before any work, a directory that cannot take the results or where they would destroy something.

    Args:
      directory: need not exist, and is not made.
      names: of the files that the work replaces or removes.
      mark: name of the sealed JSON file by which the work recognises its earlier results.
      work: what writes them, such as "evaluation".
      inputs: files that the work reads.

    Raises:
      UserError: the directory cannot be made or written, an input is one of the files, or ``refuse_foreign_files``.
    """
    replaced = {(directory / name).resolve(): name for name in names}
    for path in inputs:
        if path.resolve() in replaced:
            raise UserError(
                f"{path} is an input, and the {work} replaces or removes {replaced[path.resolve()]} in the output "
                f"{directory}. Give another --output."
            )
    refuse_foreign_files(directory, names, mark=mark, work=work)
    made = list(itertools.takewhile(lambda path: not path.exists(), (directory, *directory.parents)))
    try:
        check_writable_directory(directory, *names)
    finally:  # work that is refused leaves no empty directory; writing makes it again
        for path in made:
            with suppress(OSError):
                path.rmdir()


def refuse_foreign_files(directory: Path, names: Iterable[str], *, mark: str, work: str) -> None:
    """Refuses a directory that holds some of the files, unless ``mark`` says that the same command wrote them.

    Args:
      directory, names, mark, work: as for ``check_results_directory``.

    Raises:
      UserError: names the files.
    """
    if is_sealed(directory / mark):
        return
    foreign = sorted(name for name in names if (directory / name).is_file())
    if foreign:
        others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise UserError(
            f"{directory} already holds {foreign[0]}{others}, which the {work} would replace, and no {mark} of an "
            f"earlier {work}. Give another --output, or move the file{'s' if others else ''} away: "
            f"{', '.join(foreign)}."
        )


def is_sealed(path: Path) -> bool:
    """Whether ``write_sealed_json`` wrote a file, in any version and even if somebody edited it since."""
    try:
        return SEAL in read_json(path, dict, advice="")
    except UserError:
        return False
