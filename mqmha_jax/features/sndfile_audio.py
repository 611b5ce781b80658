"""Audio that libsndfile reads: wav, flac, mp3, ogg, opus, aiff, au, caf, sph and more."""

import contextlib
import re
from collections.abc import Iterator

import numpy as np
import soundfile
from jaxtyping import Float32

from mqmha_jax.errors import UserError
from mqmha_jax.features.audio_kinds import FLAC, OGG, Kind
from mqmha_jax.features.decoded import BLOCK_SAMPLES, SLACK_S, Decoded, describe_truncation, undecodable
from mqmha_jax.features.file_window import FileWindow, size_of

_FLAC_TOTAL = 21
"""Where a FLAC file announces its number of samples: 36 bits after the first half of a byte (RFC 9639, section 8.2)."""

_KNOWN_TOTALS = 1 << 40
"""libsndfile has a larger number of frames where none is known."""


class UnreadableCodingError(Exception):
    """libsndfile does not know the kind or the coding; FFmpeg may."""


@contextlib.contextmanager
def decode_sndfile(window: FileWindow, name: str, kind: Kind | None, start_s: float) -> Iterator[Decoded]:
    """Opens a recording.

    Args:
      window: on a file with one recording.
      name: what messages call it.
      kind: what its first bytes say.
      start_s: samples before are not wanted; they are left out where the decoder can jump.

    Raises:
      UnreadableCodingError: libsndfile refuses the file as a whole.
    """
    total = None
    if kind == FLAC:
        window, total = _flac_without_total(window)
    try:
        file = _InOrder(window)
    except soundfile.LibsndfileError as error:
        raise UnreadableCodingError from error
    with file:
        if total is None and file.frames < _KNOWN_TOTALS:
            total = file.frames
        first = round(start_s * file.samplerate)
        # libsndfile's first samples after a jump in MP3 are wrong: a frame builds on those before it.
        if not 0 < first < (total or 0) or file.format == "MP3" or not file.can_jump or not _jump(file, first):
            first = 0
        yield Decoded(file.samplerate, file.channels, first, _blocks(file, window, name, kind, first, total))


class _InOrder(soundfile.SoundFile):
    """A file that is read from front to back: soundfile jumps after each block, which some codings do not allow."""

    @property
    def can_jump(self) -> bool:
        """Whether the coding allows jumps."""
        return bool(super().seekable())

    def seekable(self) -> bool:
        """No, as far as soundfile has to know."""
        return False


def _jump(file: _InOrder, first: int) -> bool:
    try:
        return bool(file.seek(first) == first)
    except soundfile.LibsndfileError:
        file.seek(0)
        return False


def _blocks(
    file: _InOrder, window: FileWindow, name: str, kind: Kind | None, first: int, total: int | None
) -> Iterator[Float32[np.ndarray, "n channels"]]:
    position = first
    try:
        largest = max(1, BLOCK_SAMPLES // file.channels)
        while True:  # up to the announced end, and then whatever follows
            left = total - position if total and position < total else largest
            block = file.read(min(left, largest), dtype="float32", always_2d=True)
            if not len(block):
                break
            position += len(block)
            yield block
    except soundfile.LibsndfileError as error:
        if total is None or position < total:  # behind the announced end may be a tag
            raise UserError(undecodable(name, kind.name if kind else file.format)) from error
    cut = _header_exceeds_file(file.extra_info) or (kind == OGG and _last_ogg_page_is_cut(window))
    if cut or (total is not None and position < total - SLACK_S * file.samplerate):
        raise UserError(describe_truncation(name, position / file.samplerate))


def _flac_without_total(window: FileWindow) -> tuple[FileWindow, int | None]:
    """The file with no number of samples announced, so that all are decoded; and that number, if there is one."""
    window.seek(_FLAC_TOTAL)
    stored = window.read(5)
    if len(stored) < 5:
        return window, None
    total = int.from_bytes(stored) & (1 << 36) - 1
    return FileWindow(window, replaced={_FLAC_TOTAL: bytes([stored[0] & 0xF0]) + bytes(4)}), total or None


def _header_exceeds_file(libsndfile_log: str) -> bool:
    """AIFF: libsndfile mends a number of bytes that exceeds the file, and says so in its log only."""
    sizes = re.search(r"^\s*SSND\s*:\s*(\d+) \(should be (\d+)\)", libsndfile_log, re.MULTILINE)
    return sizes is not None and int(sizes[2]) < int(sizes[1])


def _last_ogg_page_is_cut(window: FileWindow) -> bool:
    """Ogg promises no total length, but every page (at most 65,307 bytes) says how long it is (RFC 3533, section 6)."""
    window.seek(max(0, size_of(window) - 2 * 65_307))
    tail = window.read()
    page = tail[tail.rfind(b"OggS\0") :]
    if len(page) < 27:
        return True
    num_segments = page[26]
    segments = page[27 : 27 + num_segments]
    return len(page) < 27 + num_segments + sum(segments)
