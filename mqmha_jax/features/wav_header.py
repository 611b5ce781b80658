"""How many bytes of samples a WAV file really has: a program that was killed or wrote into a pipe left another number.

A WAV file is a list of chunks, each with a name and a size (Multimedia Programming Interface and Data Specifications
1.0, 1991). libsndfile takes the sizes at their word.
"""

import re
import struct
from typing import NamedTuple

from mqmha_jax.errors import UserError
from mqmha_jax.features.decoded import SLACK_S
from mqmha_jax.features.file_window import ReadableFile, size_of

UNKNOWN_LENGTH = 0x7FFF0000
"""Programs that write WAV into a pipe put sizes near 2^31 or 2^32 into the header, which promise nothing."""

_CHUNK = re.compile(rb"[A-Za-z][A-Za-z0-9_ ]{3}")


class WavExtent(NamedTuple):
    """What there is of a WAV file.

    Attributes:
      stop: the byte after its end, where another one may start.
      replaced: bytes of the header to be replaced by the right ones, by their offset.
    """

    stop: int
    replaced: dict[int, bytes]


def wav_extent(file: ReadableFile, start: int, name: str) -> WavExtent:
    """Finds the end of a WAV file and the right sizes for its header.

    Args:
      file: with a WAV file at ``start``.
      start: in bytes.
      name: what messages call it.

    Raises:
      UserError: the file ends before its samples do, or something that is not part of a WAV file follows them.
    """
    end = size_of(file)
    file.seek(start)
    riff = file.read(12)
    order = ">" if riff[:4] == b"RIFX" else "<"
    bytes_per_second = 0
    chunk = start + 12
    while chunk + 8 <= end:
        file.seek(chunk)
        kind, size = struct.unpack(f"{order}4sI", file.read(8))
        if kind == b"data":
            break
        if kind == b"fmt ":
            body = file.read(16)
            bytes_per_second = struct.unpack(f"{order}I", body[8:12])[0] if len(body) == 16 else 0
        chunk += 8 + size + size % 2
    else:
        return WavExtent(end, {})  # libsndfile says that there are no samples
    first = chunk + 8
    there = end - first
    if riff[:4] == b"RF64":  # the true size is in another chunk
        return WavExtent(end, {})
    slack = SLACK_S * bytes_per_second
    if size > there:
        if size < UNKNOWN_LENGTH and size - there > slack:
            seconds = f"{there / bytes_per_second:.2f} s of audio are there" if bytes_per_second else "audio is missing"
            raise UserError(f"{name}: is truncated: {seconds}, its header announces more. Copy or download it again.")
        return _whole(start, chunk, there, end, order)
    after = _end_of_chunks(file, first + size, end, order)
    if after is not None:
        return WavExtent(after, {})
    rest = there - size
    if size == 0:  # never finished: the sizes are written last
        return _whole(start, chunk, there, end, order)
    if rest <= max(slack, 128) or _is_padding(file, first + size):
        return WavExtent(end, {})
    raise UserError(
        f"{name}: {size:,} bytes of samples by its header, but {rest:,} more follow that are not part of a WAV file. "
        "If they are samples, repair the header, e.g. with 'sox --ignore-length'; else cut them off."
    )


def _whole(start: int, chunk: int, num_bytes: int, end: int, order: str) -> WavExtent:
    """A header in which the samples last to the end of the file."""
    sizes = {4: end - start - 8, chunk - start + 4: num_bytes}
    return WavExtent(end, {at: struct.pack(f"{order}I", min(size, 0xFFFFFFFF)) for at, size in sizes.items()})


def _end_of_chunks(file: ReadableFile, position: int, end: int, order: str) -> int | None:
    """Where the chunks after the samples end: at the end of the file or at another RIFF; None: they are not chunks."""
    while position < end:
        file.seek(position)
        head = file.read(9)
        if not _CHUNK.match(head) and _CHUNK.match(head[1:]):  # after an odd number of bytes stands another one
            position, head = position + 1, head[1:]
        if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
            return position
        if len(head) < 8 or not _CHUNK.match(head):
            return end if end - position <= 1 else None
        position += 8 + struct.unpack(f"{order}4xI", head[:8])[0]
    return end if position <= end + 1 else None


def _is_padding(file: ReadableFile, position: int) -> bool:
    """Whether the rest of the file is zeros."""
    file.seek(position)
    while block := file.read(1 << 20):
        if block.strip(b"\0"):
            return False
    return True
