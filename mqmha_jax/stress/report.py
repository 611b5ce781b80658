"""Writes a stress test: tables of text, numbers for other programs, pictures and an HTML page."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mqmha_jax.atomic import replacing, write_text
from mqmha_jax.errors import printable
from mqmha_jax.json_file import write_sealed_json
from mqmha_jax.results_directory import check_results_directory
from mqmha_jax.stress.page import make_page
from mqmha_jax.stress.picture import draw_stress
from mqmha_jax.stress.results import ListUnderStress, StressTest
from mqmha_jax.stress.tables import format_stress

FORMAT_VERSION = 1
NUMBERS_FILE, TABLES_FILE, PICTURE_FILE, PAGE_FILE = "stress.json", "stress.txt", "stress.png", "stress.html"


def check_output(directory: Path, *, inputs: Iterable[Path] = ()) -> None:
    """Refuses, before any work, a directory that cannot take the results or where they would destroy something.

    Args:
      directory: need not exist.
      inputs: files that the stress test reads.

    Raises:
      UserError: the directory cannot be made or written; it holds files with the names of results, and no stress test
        wrote them; an input is one of the files that are replaced.
    """
    names = (NUMBERS_FILE, TABLES_FILE, PICTURE_FILE, PAGE_FILE)
    check_results_directory(directory, names, mark=NUMBERS_FILE, work="stress test", inputs=inputs)


def write_stress(directory: Path, test: StressTest, *, title: str) -> None:
    """Writes everything about a stress test; each file appears whole or not at all.

    ``stress.txt`` has the tables, ``stress.json`` the numbers, ``stress.png`` the picture of the mean (or of the only
    list), and ``stress.html`` all of it on a page that needs no other file.

    Args:
      directory: made if missing.
      test: the results.
      title: what was tested.

    Raises:
      UserError: a file cannot be written.
    """
    title = printable(title)  # which may be a path that is not UTF-8
    # First, because it says whose the other files are: the command can run again if it is killed here.
    write_sealed_json(directory / NUMBERS_FILE, _numbers(test, title))
    write_text(directory / TABLES_FILE, format_stress(test) + "\n")
    with replacing(directory / PICTURE_FILE) as temporary:
        temporary.write_bytes(draw_stress(test.main, f"{title}, {test.main.name}"))
    write_text(directory / PAGE_FILE, make_page(test, title))


def _numbers(test: StressTest, title: str) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "title": title,
        "settings": dict(test.settings),
        "notes": list(test.notes),
        "absent": dict(test.absent),
        "lists": {part.name: _list_numbers(part) for part in test.lists},
        "mean": None if test.mean is None else _list_numbers(test.mean),
    }


def _list_numbers(part: ListUnderStress) -> dict[str, Any]:
    return {
        "targets": part.num_targets,
        "nontargets": part.num_nontargets,
        "speakers": part.num_speakers,
        "reliable": part.reliable,
        "conditions": {
            name: {
                "eer": row.eer._asdict(),
                "difference": row.difference._asdict(),
                "miss": row.miss,
                "false_alarm": row.false_alarm,
            }
            for name, row in part.conditions.items()
        },
    }
