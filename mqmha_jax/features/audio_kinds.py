"""What kind of audio a file holds, by its first bytes, and where further recordings start in it.

A name may have any ending, so it decides only where the bytes say nothing.
"""

import heapq
import itertools
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from mqmha_jax.features.file_window import ReadableFile, size_of


class Kind(NamedTuple):
    """A kind of audio file.

    Attributes:
      name: what messages call it.
      demuxer: FFmpeg's name. Only that one is tried: among those that FFmpeg would guess from the contents are
        playlists, which make it read other files and open connections.
      needs_ffmpeg: libsndfile does not read it.
    """

    name: str
    demuxer: str
    needs_ffmpeg: bool = False


WAV, AIFF, FLAC, OGG, MP3 = (Kind(name, name.lower()) for name in ("WAV", "AIFF", "FLAC", "Ogg", "MP3"))
AU, CAF, SPHERE = Kind("AU", "au"), Kind("CAF", "caf"), Kind("SPHERE", "nistsphere")
MP4, WEBM = Kind("MP4", "mp4", needs_ffmpeg=True), Kind("WebM", "webm", needs_ffmpeg=True)
AAC, ASF, AMR = Kind("AAC", "aac", True), Kind("WMA", "asf", True), Kind("AMR", "amr", True)

AUDIO_SUFFIXES: dict[str, Kind] = {
    ".aac": AAC, ".aif": AIFF, ".aiff": AIFF, ".amr": AMR, ".au": AU, ".caf": CAF, ".flac": FLAC, ".m4a": MP4,
    ".mp3": MP3, ".mp4": MP4, ".oga": OGG, ".ogg": OGG, ".opus": OGG, ".snd": AU, ".sph": SPHERE, ".wav": WAV,
    ".webm": WEBM, ".wma": ASF,
}  # fmt: skip
"""Endings that a folder's audio has, in lower case."""

_FIRST_BYTES = [
    (rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE", WAV),
    (rb"FORM....AIF[FC]", AIFF),
    (rb"fLaC", FLAC),
    (rb"OggS\x00", OGG),
    (rb"\.snd|dns\.", AU),
    (rb"caff\x00\x01", CAF),
    (rb"NIST_1A\n", SPHERE),
    (rb"....(ftyp|moov|mdat|wide|pnot)", MP4),
    (rb"\x1a\x45\xdf\xa3", WEBM),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ASF),
    (rb"#!AMR", AMR),
    (rb"\xff[\xf0\xf1\xf8\xf9]|ADIF", AAC),
    (rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xfd]", MP3),
]
_PATTERNS = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in _FIRST_BYTES]

_BLOCK = 1 << 20


def kind_of(file: ReadableFile, suffix: str = "") -> Kind | None:
    """The kind of a file.

    Args:
      file: read from its beginning.
      suffix: the ending of its name, in lower case; decides only where the bytes say nothing.

    Returns:
      The kind, or None where neither is known.
    """
    after_tag = _id3_size(file)
    file.seek(after_tag)
    head = file.read(16)
    for pattern, kind in _PATTERNS:
        if pattern.match(head):
            return kind
    if after_tag:
        return MP3
    # The other kinds begin in one way alone; these two can be cut anywhere.
    return AUDIO_SUFFIXES[suffix] if suffix in (".mp3", ".aac") else None


def recording_starts(file: ReadableFile, kind: Kind | None) -> Iterator[int]:
    """Where recordings start that were laid end to end; decoders read only the first one of most kinds.

    Args:
      file: of this kind; not WAV, which has its length in the header.
      kind: from ``kind_of``.

    Yields:
      Offsets in bytes, ascending; mostly 0 alone. They are found as they are asked for: a file may have millions.
    """
    later: Iterator[int] = iter(())
    if kind == FLAC:  # STREAMINFO is always the first block and has 34 bytes
        later = _matches(file, b"fLaC", rb"fLaC[\x00\x80]\x00\x00\x22")
    elif kind == AIFF:
        later = _matches(file, b"FORM", rb"FORM....AIF[FC](COMM|FVER|COMT|MARK)")
    elif kind == AU:
        later = _matches(file, b".snd", rb"\.snd\x00\x00..........\x00\x00..\x00\x00\x00.")
    elif kind == CAF:
        later = _matches(file, b"caff", rb"caff\x00\x01\x00\x00desc\x00\x00\x00\x00")
    elif kind == SPHERE:
        later = _matches(file, b"NIST", rb"NIST_1A\n   \d\d\d\d\n")
    elif kind == ASF:
        later = _matches(file, b"\x30\x26\xb2\x75", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa")
    elif kind == OGG:
        later = _ogg_chains(file)
    elif kind == MP3:
        later = _mp3_headers(file)
    elif kind == MP4:
        later = _mp4_files(file)
    begin = _id3_size(file) if kind in (FLAC, MP3) else 0
    yield begin
    yield from (start for start in later if start > begin)


def _id3_size(file: ReadableFile) -> int:
    """Bytes of the ID3v2 tag in front (ID3 tag version 2.4.0, section 3.1); 0 without one."""
    file.seek(0)
    head = file.read(10)
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    size = 0
    for byte in head[6:]:
        size = size << 7 | byte & 0x7F
    return 10 + size + 10 * bool(head[5] & 0x10)


def _occurrences(file: ReadableFile, literal: bytes) -> Iterator[int]:
    """Where a short text stands in a file, read in blocks."""
    overlap = len(literal) - 1
    for start in itertools.count(0, _BLOCK):
        file.seek(start)
        block = file.read(_BLOCK + overlap)
        found = block.find(literal)
        while found >= 0:
            yield start + found
            found = block.find(literal, found + 1)
        if len(block) <= _BLOCK:
            return


def _matches(file: ReadableFile, literal: bytes, pattern: bytes) -> Iterator[int]:
    """Where a pattern stands that starts with a literal."""
    for start in _occurrences(file, literal):
        file.seek(start)
        if re.match(pattern, file.read(32), re.DOTALL):
            yield start


def _ogg_chains(file: ReadableFile) -> Iterator[int]:
    """Pages that begin a stream after pages that do not (RFC 3533, section 4): the beginning of another chain link."""
    in_beginning = True
    for start in _occurrences(file, b"OggS\0"):
        file.seek(start)
        page = file.read(6)
        if len(page) == 6 and page[5] & 0x02:
            if not in_beginning:
                yield start
            in_beginning = True
        else:
            in_beginning = False


def _mp3_headers(file: ReadableFile) -> Iterator[int]:
    """Frames with the header that encoders put first; decoders stop after the number of frames in the first one."""
    for at in heapq.merge(_occurrences(file, b"Xing"), _occurrences(file, b"Info")):
        for side_information in (32, 17, 9):  # bytes, after the four of the frame's header
            start = at - 4 - side_information
            if start >= 0:
                file.seek(start)
                frame = file.read(8 + side_information + 4)
                if _PATTERNS[-1][0].match(frame) and frame[-3:-1] == b"\0\0" and not any(frame[4 : 4 + 9]):
                    yield start
                    break


def _mp4_files(file: ReadableFile) -> Iterator[int]:
    """Boxes 'ftyp' of the top level (ISO/IEC 14496-12, section 4.3): each file has one."""
    start, end = 0, size_of(file)
    while start + 16 <= end:
        file.seek(start)
        size, kind, large = struct.unpack(">I4sQ", file.read(16))
        if kind == b"ftyp":
            yield start
        size = large if size == 1 else size
        if size < 8:
            return
        start += size
