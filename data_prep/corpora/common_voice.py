"""One unpacked language of Common Voice: ``validated.tsv`` and other lists, and ``clips/*.mp3``."""

import csv
from pathlib import Path

from data_prep.corpora.confined import confine
from data_prep.corpora.layout import corpus_root
from data_prep.manifest import Recording
from mqmha_jax.errors import UserError

ATTRIBUTES = ("gender", "age", "accents", "locale")
_DOWNLOAD = (
    "Get the archive of a language from https://commonvoice.mozilla.org/datasets and unpack it; valid: the folder of "
    "the language, cv-corpus-<version>/<language>."
)


def common_voice_recordings(directory: str | Path, *, split: str = "validated") -> list[Recording]:
    """One language of Common Voice.

    The id is the name of the clip, ``common_voice_en_1.mp3``; the speaker is the ``client_id``. Attributes are gender,
    age, accents and locale, as speakers gave them. There are no sessions.

    Args:
      directory: the folder of the language, or the folder around it if that holds only one language.
      split: name of the list to read: validated, train, dev, test, other or invalidated.

    Returns:
      Recordings in the order of the list.

    Raises:
      UserError: the corpus or the list is missing, or the list has another form.
    """
    root = corpus_root(directory, _is_root, expected="folder clips/ with lists *.tsv next to it", download=_DOWNLOAD)
    path = root / f"{split}.tsv"
    if not path.is_file():
        there = ", ".join(sorted(other.stem for other in root.glob("*.tsv")))
        raise UserError(f"{path}: no such list. Choose another with --split: {there}.")
    recordings: dict[str, Recording] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
            if missing := {"client_id", "path"} - set(rows.fieldnames or ()):
                raise UserError(
                    f"{path}:1: no column {' and '.join(sorted(missing))}; this is not a list of Common Voice."
                )
            for row in rows:
                name, speaker = row["path"], row["client_id"]
                if not name or not speaker:
                    raise UserError(
                        f"{path}:{rows.line_num}: no {'client_id' if name else 'path'}. Download the list again."
                    )
                name = name if name.endswith(".mp3") else f"{name}.mp3"  # the first releases omit it
                if name in recordings:
                    raise UserError(f"{path}:{rows.line_num}: {name} is listed twice. Download the list again.")
                source = confine(root / "clips", name, f"{path}:{rows.line_num}")
                attributes = {column: row[column] for column in ATTRIBUTES if row.get(column)}
                recordings[name] = Recording(name, speaker, source, attributes)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a list in UTF-8 separated by tabs ({error}).") from error
    if not recordings:
        raise UserError(f"{path} lists no recordings; choose another with --split.")
    return list(recordings.values())


def _is_root(folder: Path) -> bool:
    return (folder / "clips").is_dir() and any(folder.glob("*.tsv"))
