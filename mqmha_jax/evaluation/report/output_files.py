"""The files of an evaluation in its directory: their names, and the check that they replace nobody else's."""

import re
from collections.abc import Iterable
from pathlib import Path

from mqmha_jax.errors import UserError
from mqmha_jax.json_file import read_sealed_json
from mqmha_jax.results_directory import check_results_directory

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
      UserError: results of two lists would have one name; the directory cannot be made or written; it holds files with
        the names of results, and no evaluation wrote them; an input is one of the files that are replaced or removed.
    """
    names = {*_FIXED_NAMES, *list_named_files(directory)}
    earlier = {path.name for kind in ("results_*.png", "scores_*.txt") for path in directory.glob(kind)}
    named: dict[str, str] = {}
    for name in lists:
        picture = name_picture(name)
        if (other := named.setdefault(picture, name)) != name:
            raise UserError(
                f"The results of the trial lists {other!r} and {name!r} would have the same file names; rename one of "
                "the lists."
            )
        names.add(picture)
        # The names of the systems are not known yet.
        names.update(other for other in earlier if other.startswith(f"scores_{_escape(name)}_"))
    # Nor are those of a run's own lists; a file stays unless it is replaced, but a directory is in the way.
    names.update(other for other in earlier if (directory / other).is_dir())
    check_results_directory(directory, names, mark=METRICS_FILE, work="evaluation", inputs=inputs)


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
    return re.sub(r"[^\w.-]+", "-", name)  # letters of every script stay, or 会 and 日 would be one name
