"""Reads and writes a manifest: one JSON object per line, with ``utterance``, ``speaker``, ``path`` and any others."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.corpora.confined import confine
from data_prep.corpora.list_checks import collect_recordings, find_root
from data_prep.corpora.list_part import PART, take_part
from data_prep.corpora.sources import FilePart
from data_prep.manifest import Recording
from mqmha_jax.atomic import replacing
from mqmha_jax.data.ids import plain_id
from mqmha_jax.errors import UserError
from mqmha_jax.features.part import WHOLE, Part
from mqmha_jax.json_file import parse_json

REQUIRED = ("utterance", "speaker", "path")
_IS_SPEECH = "is_speech"
_FIELDS = "valid: utterance, speaker, path, if needed start_s, end_s, channel and is_speech, and other texts"


def jsonl_recordings(list_path: str | Path, root: str | Path | None = None) -> list[Recording]:
    """A JSON-lines list, as the command manifest writes it.

    Args:
      list_path: UTF-8, lines such as ``{"utterance": "a-1", "speaker": "a", "path": "a.wav", "start_s": 0.5,
        "end_s": 2.5, "session": "monday"}``. The numbers ``start_s``, ``end_s`` and ``channel`` (from 0) name a part;
        ``"is_speech": false`` marks a noise or room response; other fields become attributes.
      root: folder that the paths start from and must not leave; None: the folder of the list.

    Returns:
      Recordings in the order of the list.

    Raises:
      UserError: the list is missing, empty or not UTF-8; a line is not of this form or repeats an utterance; or a path
        leads out of the root.
    """
    list_path = Path(list_path)
    root = find_root(list_path, root, form="a file with one JSON object per line")
    try:
        with list_path.open(encoding="utf-8-sig") as file:
            numbered = (
                (number, _read_recording(line, root, f"{list_path}:{number}"))
                for number, line in enumerate(file, start=1)
                if line.strip()
            )
            return collect_recordings(numbered, list_path, parts="give each one an utterance of its own")
    except UnicodeDecodeError as error:
        raise UserError(f"{list_path}: not UTF-8 text ({error}).") from None


def write_jsonl(recordings: Sequence[Recording], list_path: str | Path) -> Path:
    """Writes a manifest that ``jsonl_recordings`` reads back.

    Args:
      recordings: files or parts of files; at least one.
      list_path: replaced if it exists.

    Returns:
      The root to read it with: the folder of the list, or the folder around all files if one is not below the list's.

    Raises:
      UserError: a recording is not a file, has an attribute with the name of a field, or the list cannot be written.
    """
    list_path = Path(list_path)
    files = [(recording, *_file_and_part(recording)) for recording in recordings]
    folders = {str(path.parent) for _, path, _ in files}
    root = Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))
    if root.is_relative_to(os.path.abspath(list_path.parent)):
        root = Path(os.path.abspath(list_path.parent))
    with replacing(list_path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for recording, path, part in files:
            file.write(json.dumps(_fields(recording, path, part, root), ensure_ascii=False) + "\n")
    return root


def _read_recording(line: str, root: Path, where: str) -> Recording:
    fields = parse_json(line, dict, where=where, advice=f"A line needs one JSON object; {_FIELDS}.")
    for name in REQUIRED:
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise UserError(f"{where}: no text in the field {name!r}; {_FIELDS}.")
    utterance, speaker, path = (fields.pop(name) for name in REQUIRED)
    part = take_part(fields, where)
    is_speech = fields.pop(_IS_SPEECH, True)
    if not isinstance(is_speech, bool):
        raise UserError(f"{where}: the field {_IS_SPEECH!r} is {is_speech!r}; valid: true or false.")
    for name, value in fields.items():
        if not isinstance(value, str):
            raise UserError(f"{where}: the field {name!r} is {value!r}; {_FIELDS}, in quotation marks.")
    file = confine(root, path, where)
    source = file if part == WHOLE else FilePart(file, part)
    return Recording(plain_id(utterance), speaker, source, fields, is_speech)


def _file_and_part(recording: Recording) -> tuple[Path, Part]:
    if isinstance(recording.source, FilePart):
        return recording.source.path, recording.source.part
    if isinstance(recording.source, Path):
        return recording.source, WHOLE
    raise UserError(
        f"Recording {recording.utterance!r} is not a file or a part of one, and a manifest can name nothing else. "
        "Build the shards from the corpus itself."
    )


def _fields(recording: Recording, path: Path, part: Part, root: Path) -> dict[str, Any]:
    if taken := recording.attributes.keys() & {*REQUIRED, *PART, _IS_SPEECH}:
        raise UserError(
            f"Recording {recording.utterance!r} has a column {taken.pop()!r}, a field of manifests; rename it."
        )
    name = Path(os.path.abspath(path)).relative_to(root).as_posix()
    changed = {key: value for key, value in part._asdict().items() if value != getattr(WHOLE, key)}
    values = {"utterance": recording.utterance, "speaker": recording.speaker, "path": name}
    silent = {} if recording.is_speech else {_IS_SPEECH: False}
    return {**values, **changed, **silent, **recording.attributes}
