"""A Kaldi data directory: ``wav.scp``, ``utt2spk``, and ``segments`` and ``spk2gender`` if they exist."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_prep.corpora.confined import confine
from data_prep.corpora.sources import ArchiveEntry, Excerpt, FilePart, ShellCommand, Source
from data_prep.manifest import Recording
from mqmha_jax.data.ids import plain_id, split_fields, split_first
from mqmha_jax.data.lists import read_utt2spk
from mqmha_jax.errors import UserError, count_noun
from mqmha_jax.features.audio import Part

_MEND = "Repair the lists, for instance with Kaldi's utils/fix_data_dir.sh."
_ARCHIVE = re.compile(r"(?P<path>.+\.ark):(?P<offset>\d{1,18})")


def kaldi_recordings(
    directory: str | Path, *, root: str | Path | None = None, allow_pipes: bool = False
) -> list[Recording]:
    """A Kaldi data directory: wav.scp, utt2spk, segments.

    If ``segments`` exists, the recording becomes the attribute ``session``; if ``spk2gender`` exists, it gives the
    attribute ``gender``.

    Args:
      directory: the folder with ``wav.scp`` and ``utt2spk``.
      root: folder of the audio; relative paths start here and no path may lead out of it; None: DIRECTORY.
      allow_pipes: let the shell run entries of wav.scp that end in "|"; only if you trust them.

    Returns:
      Recordings in the order of ``utt2spk``.

    Raises:
      UserError: a file is missing or has another form, an utterance has no audio, a recording is unknown, an entry is
        a command although commands are not allowed, or a path leads out of the root.
    """
    directory = Path(directory)
    for name in ("wav.scp", "utt2spk"):
        if not (directory / name).is_file():
            near = [folder for folder in (directory.parent, *sorted(directory.glob("*"))) if (folder / name).is_file()]
            hint = f" There is one in {near[0]}." if near else ""
            raise UserError(f"{directory / name}: no such file; a Kaldi data directory has wav.scp and utt2spk.{hint}")
    root = directory if root is None else Path(root)
    if not root.is_dir():
        raise UserError(f"No such folder: {root}. --root is the folder of the audio.")
    sources = {name: _source(entry, root, where, allow_pipes) for where, name, entry in _lines(directory / "wav.scp")}
    session_of: Mapping[str, str] = {}
    if (directory / "segments").is_file():
        sources, session_of = _segments(directory / "segments", sources)
    genders = {}
    if (directory / "spk2gender").is_file():
        genders = {speaker: gender for _, speaker, gender in _lines(directory / "spk2gender")}
    utt2spk = read_utt2spk(directory / "utt2spk")
    for what, missing in (
        ("audio in wav.scp (or segments)", [utterance for utterance in utt2spk if utterance not in sources]),
        ("speaker", [utterance for utterance in sources if utterance not in utt2spk]),
    ):
        if missing:
            first = f"{count_noun(len(missing), 'utterance')} without {what}, the first is {missing[0]!r}"
            raise UserError(f"{directory / 'utt2spk'}: {first}. {_MEND}")
    recordings = []
    for utterance, speaker in utt2spk.items():
        attributes = {"session": session_of[utterance]} if utterance in session_of else {}
        if gender := genders.get(plain_id(speaker)):  # its keys are plain
            attributes["gender"] = gender
        recordings.append(Recording(utterance, speaker, sources[utterance], attributes))
    return recordings


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yields place, name and rest of each line; the rest may contain spaces; names are unique."""
    names = set()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}).") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        name, rest = split_first(line)
        if not rest:
            raise UserError(f"{path}:{number}: only one field; a line holds a name, a space and a value. {_MEND}")
        name = plain_id(name)
        if name in names:
            raise UserError(f"{path}:{number}: {name!r} is listed twice. {_MEND}")
        names.add(name)
        yield f"{path}:{number}", name, rest


def _source(entry: str, root: Path, where: str, allow_pipes: bool) -> Source:
    if entry.endswith("|"):
        if not allow_pipes:
            raise UserError(
                f"{where}: {entry!r} is a command, which may do anything to this machine. If you trust the list, allow "
                "its commands with --allow-pipes; otherwise convert the audio and list the files."
            )
        return ShellCommand(entry.removesuffix("|").strip())
    if match := _ARCHIVE.fullmatch(entry):
        return ArchiveEntry(confine(root, match["path"], where), int(match["offset"]))
    return confine(root, entry, where)


def _segments(path: Path, sources: Mapping[str, Source]) -> tuple[dict[str, Source], dict[str, str]]:
    """Reads source and recording of each utterance from lines ``utterance recording start end`` in seconds."""
    parts: dict[str, Source] = {}
    recording_of = {}
    for where, utterance, rest in _lines(path):
        try:
            recording, start, end = split_fields(rest)
            recording = plain_id(recording)
            start_s, end_s = float(start), float(end)
        except ValueError:
            raise UserError(f"{where}: {rest!r} is not a recording with its start and end in seconds.") from None
        if end_s == -1:  # Kaldi's sign for the end of the recording
            end_s = math.inf
        if not 0 <= start_s < end_s:
            raise UserError(f"{where}: the segment from {start} s to {end} s must end after its start.")
        if recording not in sources:
            raise UserError(f"{where}: recording {recording!r} is not in wav.scp. {_MEND}")
        source, part = sources[recording], Part(start_s, None if end_s == math.inf else end_s)
        parts[utterance] = FilePart(source, part) if isinstance(source, Path) else Excerpt(source, part)
        recording_of[utterance] = recording
    return parts, recording_of
