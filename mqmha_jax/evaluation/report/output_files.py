"""The files of an evaluation in its directory: their names, and the check that they replace nobody else's."""

import itertools
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mqmha_jax.atomic import check_writable_directory
from mqmha_jax.errors import UserError
from mqmha_jax.json_file import SEAL, read_json, read_sealed_json

METRICS_FILE, SPEAKERS_FILE = "metrics.json", "utt2spk.txt"
TABLES_FILE, REPORT_FILE = "results.txt", "report.html"
_FIXED_NAMES = (METRICS_FILE, SPEAKERS_FILE, TABLES_FILE, REPORT_FILE)


def name_scores(trial_list: str, system: str) -> str:
    """Returns the name of the file with the scores of a system on a list."""
    return f"scores_{_escape(trial_list)}_{_escape(system)}.txt"


def name_picture(trial_list: str) -> str:
    """Returns the name of the picture of a list."""
    return f"results_{_escape(trial_list)}.png"


def check_output(directory: Path, *, lists: Iterable[str] = (), inputs: Iterable[Path] = ()) -> None:
    """Refuses, before any work, a directory that cannot take the results or where they would destroy something.

    Args:
      directory: need not exist.
      lists: names of the trial lists.
      inputs: files that the evaluation reads.

    Raises:
      UserError: the directory cannot be made or written; it holds files with the names of results, and no evaluation
        wrote them; an input is one of the files that are replaced or removed.
    """
    earlier = [path.name for kind in ("results_*.png", "scores_*.txt") for path in directory.glob(kind)]
    names = {*_FIXED_NAMES, *list_named_files(directory)}
    for name in lists:
        names.add(name_picture(name))
        # The names of the systems are not known yet.
        names.update(other for other in earlier if other.startswith(f"scores_{_escape(name)}_"))
    replaced = {(directory / name).resolve(): name for name in names}
    for path in inputs:
        if path.resolve() in replaced:
            raise UserError(
                f"{path} is an input, and the evaluation replaces or removes {replaced[path.resolve()]} in the output "
                f"{directory}. Give another --output."
            )
    if not holds_evaluation(directory):
        foreign = sorted(name for name in names if (directory / name).is_file())
        if foreign:
            others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            raise UserError(
                f"{directory} already holds {foreign[0]}{others}, which the evaluation would replace, and no "
                f"{METRICS_FILE} of an earlier evaluation. Give another --output, or move the "
                f"file{'s' if others else ''} away: {', '.join(foreign)}."
            )
    made = list(itertools.takewhile(lambda path: not path.exists(), (directory, *directory.parents)))
    try:
        check_writable_directory(directory, *_FIXED_NAMES, *earlier)
    finally:  # an evaluation that is refused leaves no empty directory; writing makes it again
        for path in made:
            with suppress(OSError):
                path.rmdir()


def holds_evaluation(directory: Path) -> bool:
    """Whether an evaluation of any version wrote ``metrics.json`` in a directory, even if somebody edited it since."""
    try:
        saved = read_json(directory / METRICS_FILE, dict, advice="")
    except UserError:
        return False
    return SEAL in saved and isinstance(saved.get("format_version"), int) and isinstance(saved.get("lists"), dict)


def list_named_files(directory: Path) -> set[str]:
    """Returns the names of the files of an earlier evaluation that depend on its lists and systems."""
    try:
        saved = read_sealed_json(directory / METRICS_FILE, advice="")
    except UserError:  # no evaluation, or another program's file: remove nothing
        return set()
    lists = saved.get("lists", {})
    scores = {system["scores"] for part in lists.values() for system in part["systems"].values()}
    speakers = {saved["utt2spk"]} if saved.get("utt2spk") else set()
    names = scores | speakers | {name_picture(name) for name in lists}
    return {name for name in names if Path(name).name == name}  # a received file may name paths outside: ignore these


def _escape(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)
